package compact_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// crashBucket has something to do of every kind: replicas to merge, a window to
// merge and to downsample, a block out of retention.
func crashBucket() string {
	var s strings.Builder
	for i := range 8 {
		for r, name := range []string{"a", "b"} {
			if r == 1 && i > 1 {
				continue
			}
			fmt.Fprintf(&s, "block %s%02d range=%dh..%dh labels={cluster=\"eu\",replica=%q}\n", name, i, 8*i, 8*i+8, name)
			fmt.Fprintf(&s, "  up{job=\"x\"} %dm..%dm/5m:1+0.5\n", 480*i+2*r, 480*i+480)
			fmt.Fprintf(&s, "  only_%s{block=\"%d\"} %dh:7\n", name, i, 8*i)
		}
	}
	return s.String()
}

var crashFlags = []string{"--deduplication.func=penalty", "--deduplication.replica-label=replica", "--delete-delay=0s", "--block-files-concurrency=1"}

// asSet forgets that blocks which supersede each other hold samples twice.
func asSet(c map[string][]sample) map[string]map[sample]bool {
	out := map[string]map[sample]bool{}
	for key, samples := range c {
		out[key] = map[sample]bool{}
		for _, s := range samples {
			out[key][s] = true
		}
	}
	return out
}

// TestRunOnce_SurvivesCrashAtEachAccess ends the compactor at every single access to the bucket,
// with the access carried out or not. Nothing may be lost at that moment, and
// the next run must arrive where an undisturbed one does.
func TestRunOnce_SurvivesCrashAtEachAccess(t *testing.T) {
	text := crashBucket()
	undisturbed := blocktest.Bucket(t, text)
	faulty := buckettest.NewFaulty(undisturbed, nil)
	require.NoError(t, newCompactor(t, faulty, crashFlags...).RunOnce(context.Background()))
	wantLive, want := live(t, undisturbed), content(t, undisturbed)
	require.Len(t, wantLive, 4, "%v", wantLive) // 48 h raw and 5 m, and the last two
	names := countBlocks(t, undisturbed)
	total := len(faulty.Calls(false))
	t.Logf("%d accesses", total)

	// Each crash costs a second of waiting for the disk. All of them are tried
	// with HINDSIGHT_TEST_EXHAUSTIVE=1.
	step := 9
	if os.Getenv("HINDSIGHT_TEST_EXHAUSTIVE") != "" {
		step = 1
	}
	start := blocktest.Bucket(t, text)
	for n := 1; n <= total; n += step {
		crash(t, copyBucket(t, start), n, n%2 == 0, func(b bucket.Bucket, what string) {
			require.Equal(t, wantLive, live(t, b), what)
			require.Equal(t, want, content(t, b), what)
			require.Equal(t, names, countBlocks(t, b), what)
		})
	}
}

func countBlocks(t testing.TB, b bucket.Bucket) int {
	// An interrupted upload is a partial block, which is cleaned after 48 h.
	return len(poll(t, b).Metas)
}

func copyBucket(t testing.TB, from bucket.Bucket) *bucket.Memory {
	t.Helper()
	to := bucket.NewMemory()
	for _, name := range list(t, from) {
		r, err := from.Get(context.Background(), name)
		require.NoError(t, err)
		require.NoError(t, to.Upload(context.Background(), name, r, -1))
		require.NoError(t, r.Close())
	}
	return to
}

func crash(t *testing.T, b bucket.Bucket, n int, carriedOut bool, check func(b bucket.Bucket, what string)) {
	t.Helper()
	must := keptBy(t, b)
	var calls atomic.Int64
	var at atomic.Pointer[buckettest.Op]
	// From the upload of the block index on, a pass writes what is only a help: the
	// index, and bundles of index headers.
	var help atomic.Bool
	faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
		k := int(calls.Add(1))
		if k <= n && op.Kind == "upload" && strings.Contains(op.Name, "block-index") {
			help.Store(true)
		}
		switch {
		case k == n:
			at.Store(&op)
			return buckettest.Fault{Err: buckettest.ErrInjected, AfterEffect: carriedOut}
		case k > n:
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	what := fmt.Sprintf("crash at access %d, carried out: %t", n, carriedOut)
	// With the data directory of the last run a compactor need not wait for its leases.
	dir := t.TempDir()
	err := compactorIn(t, dir, faulty, crashFlags...).RunOnce(context.Background())
	// A pass goes on without the list of deletions of series, and reads it in the next one.
	if name := at.Load().Name; !help.Load() && !strings.Contains(name, "block-index") && name != "hindsight/deletions" {
		require.Error(t, err, what)
	}

	has := asSet(content(t, b, "replica"))
	for key, samples := range must {
		for s := range samples {
			require.True(t, has[key][s], "%s: a sample of %s is lost", what, key)
		}
	}
	require.NoError(t, compactorIn(t, dir, b, crashFlags...).RunOnce(context.Background()), what)
	check(b, what)
}

// keptBy returns the samples that no deduplication takes away: those of series
// that one replica only has.
func keptBy(t testing.TB, b bucket.Bucket) map[string]map[sample]bool {
	out := asSet(content(t, b, "replica"))
	maps.DeleteFunc(out, func(key string, _ map[sample]bool) bool { return !strings.Contains(key, "only_") })
	require.NotEmpty(t, out)
	return out
}

// TestRunOnce_SurvivesUnreliableBucket lets one access in ten fail. No pass stops at a failure,
// and what is not reached in one is reached in the next.
func TestRunOnce_SurvivesUnreliableBucket(t *testing.T) {
	text := crashBucket()
	undisturbed := blocktest.Bucket(t, text)
	require.NoError(t, newCompactor(t, undisturbed, crashFlags...).RunOnce(context.Background()))
	b := blocktest.Bucket(t, text)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	faulty := buckettest.NewFaulty(b, func(buckettest.Op) buckettest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(10) > 0 {
			return buckettest.Fault{}
		}
		return buckettest.Fault{Err: buckettest.ErrInjected, AfterEffect: r.IntN(2) == 0}
	})
	c := newCompactor(t, faulty, crashFlags...)
	passes := 1
	for ; c.RunOnce(context.Background()) != nil; passes++ {
		require.Less(t, passes, 400)
	}
	t.Logf("%d passes", passes)
	require.Equal(t, live(t, undisturbed), live(t, b))
	require.Equal(t, content(t, undisturbed), content(t, b))
}

func TestRunOnce_EndsWhenCancelled(t *testing.T) {
	text := crashBucket()
	undisturbed := blocktest.Bucket(t, text)
	require.NoError(t, newCompactor(t, undisturbed, crashFlags...).RunOnce(context.Background()))
	start := blocktest.Bucket(t, text)
	for _, n := range []int64{1, 17, 77, 120} {
		b := copyBucket(t, start)
		ctx, cancel := context.WithCancel(context.Background())
		var calls atomic.Int64
		faulty := buckettest.NewFaulty(b, func(buckettest.Op) buckettest.Fault {
			if calls.Add(1) == n {
				cancel()
			}
			return buckettest.Fault{}
		})
		c := newCompactor(t, faulty, crashFlags...)
		require.ErrorIs(t, c.RunOnce(ctx), context.Canceled)
		require.NoError(t, c.RunOnce(context.Background()))
		require.Equal(t, live(t, undisturbed), live(t, b))
		require.Equal(t, content(t, undisturbed), content(t, b))
	}
}
