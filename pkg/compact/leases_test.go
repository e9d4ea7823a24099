package compact_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
)

// TestRunOnce_CompactorsShareGroups runs two compactors on twenty groups. Each job is
// carried out once, and none of the two is idle.
func TestRunOnce_CompactorsShareGroups(t *testing.T) {
	const groups = 20
	var text strings.Builder
	for g := range groups {
		for i := range 6 {
			fmt.Fprintf(&text, "block g%02d%d range=%dh..%dh labels={tenant=\"%02d\"}\n  up{job=\"x\"} %dh..%dh/5m:1+1\n", g, i, 2*i, 2*i+2, g, 2*i, 2*i+2)
		}
	}
	b := blocktest.Bucket(t, text.String())
	want := content(t, b)
	var counts [2]atomic.Int64
	done := make(chan error)
	for i := range counts {
		// The other one carries out a job of its own before each job of this one.
		counted := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "upload" && strings.HasSuffix(op.Name, "/index") {
				counts[i].Add(1)
				for start := time.Now(); counts[1-i].Load() == 0 && time.Since(start) < 10*time.Second; {
					time.Sleep(time.Millisecond)
				}
			}
			return buckettest.Fault{}
		})
		c := newCompactor(t, counted, "--compact.lease-duration=1s")
		go func() { done <- c.RunOnce(t.Context()) }()
	}
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	one, two := counts[0].Load(), counts[1].Load()
	t.Logf("%d and %d merges", one, two)
	require.Equal(t, int64(groups), one+two, "each group is merged once")
	require.Positive(t, min(one, two))
	require.Len(t, live(t, b), 3*groups)
	require.Equal(t, want, content(t, b))
}

// pausing is a bucket whose calls block from the n-th on until resume is closed, as those of
// a process that was stopped.
type pausing struct {
	*bucket.Memory
	n      int64
	calls  atomic.Int64
	resume chan struct{}
}

func (p *pausing) pause() {
	if p.calls.Add(1) >= p.n {
		<-p.resume
	}
}

func (p *pausing) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	p.pause()
	return p.Memory.List(ctx, dir, f)
}

func (p *pausing) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	p.pause()
	return p.Memory.Get(ctx, name)
}

func (p *pausing) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	p.pause()
	return p.Memory.GetRange(ctx, name, off, length)
}

func (p *pausing) Stat(ctx context.Context, name string) (bucket.Object, error) {
	p.pause()
	return p.Memory.Stat(ctx, name)
}

func (p *pausing) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	p.pause()
	return p.Memory.Upload(ctx, name, r, size)
}

func (p *pausing) Delete(ctx context.Context, name string) error {
	p.pause()
	return p.Memory.Delete(ctx, name)
}

func (p *pausing) GetVersion(ctx context.Context, name string, limit int64) ([]byte, bucket.Version, error) {
	p.pause()
	return p.Memory.GetVersion(ctx, name, limit)
}

func (p *pausing) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (bucket.Version, error) {
	p.pause()
	return p.Memory.PutIf(ctx, name, data, old)
}

// TestRunOnce_PausedOwnerDoesNoHarm stops a compactor at an access to the bucket, lets
// another one take over and do all the work, and continues the first one.
func TestRunOnce_PausedOwnerDoesNoHarm(t *testing.T) {
	text := crashBucket()
	undisturbed := blocktest.Bucket(t, text)
	faulty := buckettest.NewFaulty(undisturbed, nil)
	require.NoError(t, newCompactor(t, faulty, crashFlags...).RunOnce(context.Background()))
	wantLive, want := live(t, undisturbed), content(t, undisturbed)
	total := len(faulty.Calls(false))
	lost, step := 0, 11
	if os.Getenv("HINDSIGHT_TEST_EXHAUSTIVE") != "" {
		step = 1
	}
	for n := 10; n < total; n += step {
		var b *bucket.Memory
		synctest.Test(t, func(t *testing.T) {
			b = blocktest.Bucket(t, text) // its blocks are uploaded at the virtual time
			resume := make(chan struct{})
			paused := &pausing{Memory: b, n: int64(n), resume: resume}
			first, second := newCompactor(t, paused, crashFlags...), newCompactor(t, b, crashFlags...)
			done := make(chan error)
			go func() { done <- first.RunOnce(t.Context()) }()
			synctest.Wait()
			require.NoError(t, second.RunOnce(t.Context()), "pause at access %d", n)
			close(resume)
			if err := <-done; err != nil {
				// It may have planned a job on blocks that are deleted since.
				require.NotContains(t, err.Error(), "panic")
				lost++
			}
		})
		what := fmt.Sprintf("pause at access %d", n)
		require.NoError(t, newCompactor(t, b, crashFlags...).RunOnce(context.Background()), what)
		require.Equal(t, wantLive, live(t, b), what)
		require.Equal(t, want, content(t, b), what)
	}
	t.Logf("%d accesses; %d times the paused compactor reported an error", total, lost)
}

// TestRunOnce_WritesEpochIntoResults also checks that the epoch of an input is not taken
// for that of the result.
func TestRunOnce_WritesEpochIntoResults(t *testing.T) {
	b := blocktest.Bucket(t, crashBucket())
	require.NoError(t, newCompactor(t, b, crashFlags...).RunOnce(t.Context()))
	results := 0
	epochs := map[uint64]bool{}
	for _, m := range poll(t, b).Metas {
		if m.Compaction.Level == 1 {
			require.Empty(t, m.Thanos.Extensions)
			continue
		}
		var ext struct {
			Lease struct {
				Epoch uint64
				Owner string
			} `json:"hindsight_lease"`
		}
		require.NoError(t, json.Unmarshal(m.Thanos.Extensions, &ext))
		require.Positive(t, ext.Lease.Epoch)
		require.Len(t, ext.Lease.Owner, 26)
		epochs[ext.Lease.Epoch] = true
		results++
	}
	require.Positive(t, results)
}

// plainBucket hides conditional writes.
type plainBucket struct{ bucket.Bucket }

// TestRun_RefusesSecondWithoutConditions also shows the flag by which two can share the
// bucket by selectors.
func TestRun_RefusesSecondWithoutConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := plainBucket{blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- newCompactor(t, b, "--wait").Run(ctx) }()
		time.Sleep(time.Minute)
		err := newCompactor(t, b, "--wait").Run(ctx)
		require.ErrorIs(t, err, lease.ErrConflict)
		require.ErrorContains(t, err, "--compact.leases=none")
		require.NoError(t, newCompactor(t, b, "--compact.leases=none").RunOnce(ctx))
		cancel()
		require.NoError(t, <-done)
		require.Len(t, live(t, b), 3)
	})
}
