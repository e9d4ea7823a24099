package lease

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const group = `{tenant="a"}`

func newManager(t *testing.T, b bucket.Bucket) *Manager {
	t.Helper()
	return managerIn(t, b, t.TempDir())
}

func managerIn(t *testing.T, b bucket.Bucket, dir string) *Manager {
	t.Helper()
	m := New(Config{Bucket: b, Duration: time.Minute, IDFile: filepath.Join(dir, "id"), Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { m.Close(t.Context()) })
	return m
}

func joined(t *testing.T, b bucket.Bucket) *Manager {
	t.Helper()
	m := newManager(t, b)
	require.NoError(t, m.Join(t.Context()))
	return m
}

// acquire takes a lease after a listing that begins now.
func acquire(t *testing.T, m *Manager) (*Lease, error) {
	t.Helper()
	return m.Acquire(t.Context(), group, time.Now(), time.Now())
}

// check checks a lease. A write that follows has at least minCertain.
func check(t *testing.T, l *Lease) error {
	t.Helper()
	start := time.Now()
	until, err := l.Check(t.Context())
	if err == nil {
		require.False(t, until.Before(start.Add(minCertain)))
	}
	return err
}

func TestAcquire_OneOwnerAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		one, two := joined(t, b), joined(t, b)
		l, err := acquire(t, one)
		require.NoError(t, err)
		require.Equal(t, uint64(1), l.Epoch())
		again, err := acquire(t, one)
		require.NoError(t, err)
		require.Same(t, l, again, "the jobs of a process share it")

		// The owner is alive for much longer than the lease time.
		for range 10 {
			time.Sleep(50 * time.Second)
			_, err = acquire(t, two)
			require.ErrorIs(t, err, errHeld)
			require.NoError(t, check(t, l))
		}
		listed := time.Now()
		time.Sleep(time.Second)
		again.Release(t.Context(), time.Now())
		_, err = acquire(t, two)
		require.ErrorIs(t, err, errHeld, "another job has it")
		l.Release(t.Context(), time.Now())
		_, err = two.Acquire(t.Context(), group, listed, time.Now())
		require.ErrorIs(t, err, ErrStale, "its listing is older than the release")
		time.Sleep(time.Second)
		other, err := acquire(t, two)
		require.NoError(t, err)
		require.Equal(t, uint64(2), other.Epoch())
		other.Release(t.Context(), time.Now())
	})
}

// TestAcquire_RefusesOldListingOfSameProcess has a pass with an old listing beside a cleanup
// with a new one: what the other compactor did in between counts for the pass too, while
// the cleanup has the lease and after it.
func TestAcquire_RefusesOldListingOfSameProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		one, two := joined(t, b), joined(t, b)
		listed := time.Now()
		time.Sleep(time.Second)
		other, err := acquire(t, two)
		require.NoError(t, err)
		other.Release(t.Context(), time.Now())
		time.Sleep(time.Second)
		cleanup, err := acquire(t, one)
		require.NoError(t, err)
		_, err = one.Acquire(t.Context(), group, listed, time.Now())
		require.ErrorIs(t, err, ErrStale)
		cleanup.Release(t.Context(), time.Now())
		_, err = one.Acquire(t.Context(), group, listed, time.Now())
		require.ErrorIs(t, err, ErrStale)
		again, err := acquire(t, one)
		require.NoError(t, err)
		again.Release(t.Context(), time.Now())
	})
}

// TestAcquire_TakesOverFromDeadOwner stops the heartbeat of an owner, and starts it again
// after another one has taken over: a process that was paused.
func TestAcquire_TakesOverFromDeadOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		paused := buckettest.NewFaulty(b, nil)
		one, two := joined(t, paused), joined(t, b)
		l, err := acquire(t, one)
		require.NoError(t, err)
		time.Sleep(10 * time.Second) // some time after a heartbeat
		until, err := l.Check(t.Context())
		require.NoError(t, err)
		paused.SetRule(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })
		start := time.Now()
		for {
			_, err = acquire(t, two)
			if err == nil || time.Since(start) > time.Hour {
				break
			}
			if !isStale(err) {
				require.ErrorIs(t, err, errHeld)
			}
			time.Sleep(10 * time.Second)
		}
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(start), time.Minute)
		require.Less(t, time.Since(start), 2*time.Minute)
		require.False(t, time.Now().Before(until), "a write that the last check allowed has ended")

		paused.SetRule(nil)
		require.ErrorIs(t, check(t, l), ErrLost)
		l.Release(t.Context(), time.Now())
		require.NoError(t, check(t, two.lease(group)), "the late release changes nothing")
		_, err = acquire(t, one)
		require.ErrorIs(t, err, errHeld)
		two.lease(group).Release(t.Context(), time.Now())
	})
}

func isStale(err error) bool { return err != nil && !isHeld(err) }
func isHeld(err error) bool  { _, ok := err.(*HeldError); return ok }

// TestAcquire_ContinuesAfterRestart kills a process and starts it again with the same data
// directory. It need not wait for the lease time.
func TestAcquire_ContinuesAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		dir := t.TempDir()
		dead := buckettest.NewFaulty(b, nil)
		first := managerIn(t, dead, dir)
		require.NoError(t, first.Join(t.Context()))
		l, err := acquire(t, first)
		require.NoError(t, err)
		dead.SetRule(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })

		second := managerIn(t, b, dir)
		require.NoError(t, second.Join(t.Context()))
		_, err = acquire(t, second)
		require.ErrorIs(t, err, ErrStale, "the listing may be older than the work of the last process")
		time.Sleep(time.Second)
		now, err := acquire(t, second)
		require.NoError(t, err)
		require.Equal(t, uint64(3), now.Epoch())
		dead.SetRule(nil)
		require.ErrorIs(t, check(t, l), ErrLost)
		now.Release(t.Context(), time.Now())
	})
}

// TestRelease_IsRepeated lets the write of a release fail. Others get the lease although
// the owner is alive.
func TestRelease_IsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		faulty := buckettest.NewFaulty(b, nil)
		one, two := joined(t, faulty), joined(t, b)
		l, err := acquire(t, one)
		require.NoError(t, err)
		faulty.SetRule(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })
		l.Release(t.Context(), time.Now())
		_, err = acquire(t, two)
		require.ErrorIs(t, err, errHeld)
		faulty.SetRule(nil)
		time.Sleep(20 * time.Second)
		other, err := acquire(t, two)
		require.NoError(t, err)
		other.Release(t.Context(), time.Now())
	})
}

// TestAcquire_SurvivesEachFault fails each access of a script in turn, carried out or not,
// and checks that there is never a second owner.
func TestAcquire_SurvivesEachFault(t *testing.T) {
	for n := 1; n <= 12; n++ {
		for _, carriedOut := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := bucket.NewMemory()
				calls := 0
				faulty := buckettest.NewFaulty(b, func(buckettest.Op) buckettest.Fault {
					if calls++; calls == n {
						return buckettest.Fault{Err: buckettest.ErrInjected, AfterEffect: carriedOut}
					}
					return buckettest.Fault{}
				})
				one, two := newManager(t, faulty), joined(t, b)
				for range 3 {
					if one.Join(t.Context()) == nil {
						break
					}
				}
				var l *Lease
				var err error
				for range 5 {
					time.Sleep(time.Second)
					if l, err = acquire(t, one); err == nil {
						break
					}
				}
				require.NoError(t, err, "fault at access %d", n)
				_, err = acquire(t, two)
				require.ErrorIs(t, err, errHeld)
				l.Release(t.Context(), time.Now())
				time.Sleep(30 * time.Second)
				other, err := acquire(t, two)
				require.NoError(t, err, "fault at access %d", n)
				other.Release(t.Context(), time.Now())
				one.Close(t.Context())
				two.Close(t.Context())
				require.LessOrEqual(t, count(t, b, beatDir), 1)
			})
		}
	}
}

// unconditional hides conditional writes.
type unconditional struct{ bucket.Bucket }

func TestJoin_RefusesSecondWithoutConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := unconditional{bucket.NewMemory()}
		one := joined(t, b)
		two := newManager(t, b)
		err := two.Join(t.Context())
		require.ErrorIs(t, err, ErrConflict)
		require.ErrorContains(t, err, "--compact.leases=none")
		require.NoError(t, one.Join(t.Context()), "the one that works stays")
		l, err := acquire(t, one)
		require.NoError(t, err)
		require.Zero(t, l.Epoch())
		require.NoError(t, check(t, l))
		l.Release(t.Context(), time.Now())

		one.Close(t.Context())
		require.NoError(t, two.Join(t.Context()))
	})
}

// TestJoin_OneOfSeveralWithoutConditions starts three at once, and one after a crash.
func TestJoin_OneOfSeveralWithoutConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := unconditional{bucket.NewMemory()}
		errs := make(chan error, 3)
		var ms []*Manager
		for range 3 {
			m := newManager(t, b)
			ms = append(ms, m)
			go func() { errs <- m.Join(t.Context()) }()
		}
		won := 0
		for range ms {
			if <-errs == nil {
				won++
			}
		}
		require.Equal(t, 1, won)
	})
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		dead := buckettest.NewFaulty(unconditional{b}, nil)
		first := joined(t, unconditional{dead})
		dead.SetRule(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })
		start := time.Now()
		second := newManager(t, unconditional{b})
		require.NoError(t, second.Join(t.Context()))
		require.GreaterOrEqual(t, time.Since(start), time.Minute)
		// The first one was only paused.
		dead.SetRule(nil)
		time.Sleep(2 * time.Minute)
		conflicts := 0
		for _, m := range []*Manager{first, second} {
			if m.Join(t.Context()) != nil {
				conflicts++
			}
		}
		require.Equal(t, 1, conflicts, "one of the two has to end")
	})
}

func TestSweep_DeletesOldHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		dead := buckettest.NewFaulty(b, nil)
		joined(t, dead)
		dead.SetRule(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })
		m := joined(t, b)
		require.NoError(t, m.Sweep(t.Context()))
		time.Sleep(5 * time.Minute)
		require.NoError(t, m.Sweep(t.Context()))
		require.Equal(t, 2, count(t, b, beatDir))
		time.Sleep(6 * time.Minute)
		require.NoError(t, m.Sweep(t.Context()))
		require.Equal(t, 1, count(t, b, beatDir))
	})
}

func TestIdentity_IsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "id")
	one, err := identity(file)
	require.NoError(t, err)
	two, err := identity(file)
	require.NoError(t, err)
	require.Equal(t, one, two)
	require.NoError(t, os.WriteFile(file, []byte("../../x"), 0o644))
	three, err := identity(file)
	require.NoError(t, err)
	require.NotEqual(t, one, three)
	require.Regexp(t, validID, three)
}

func count(t *testing.T, b bucket.Bucket, dir string) int {
	t.Helper()
	n := 0
	require.NoError(t, b.List(t.Context(), dir, func(bucket.Object) error {
		n++
		return nil
	}))
	return n
}
