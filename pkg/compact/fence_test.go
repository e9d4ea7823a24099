package compact_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// stoppable is the bucket of one compactor, which stops at a call, before the call is
// carried out, until resume is closed: so do all other calls, as those of a process
// between SIGSTOP and SIGCONT. It knows the leases of the compactor, and which writes of
// it were not covered by one.
type stoppable struct {
	*bucket.Memory
	// at says at which call; it is called by one goroutine at a time until it says yes.
	at     func(op string) bool
	resume chan struct{}
	// fail is the error of a call that was carried out; nil has none.
	fail func(op string) error

	mu      sync.Mutex
	stopped string
	// leases are the contents that the compactor has last written, by the name of a lease.
	leases map[string]string
	writes []string // with the epoch
	late   []string
}

func newStoppable(b *bucket.Memory, at func(op string) bool) *stoppable {
	return &stoppable{Memory: b, at: at, resume: make(chan struct{}), leases: map[string]string{}}
}

// begin waits while the compactor is stopped. A write needs a lease, or a context that has
// ended: so has that of a write which follows its check of the lease and waited.
func (s *stoppable) begin(ctx context.Context, kind, name string) {
	op := kind + " " + name
	s.mu.Lock()
	if s.stopped == "" && s.at(op) {
		s.stopped = op
	}
	stopped := s.stopped != ""
	s.mu.Unlock()
	if stopped {
		<-s.resume
	}
	if fencedWrite(op) && ctx.Err() == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		epoch := s.epoch(kind, name)
		s.writes = append(s.writes, fmt.Sprintf("%s epoch=%d", op, epoch))
		if epoch == 0 {
			s.late = append(s.late, op)
		}
	}
}

// epoch is that of the lease under which the compactor may write an object of a block, 0
// if it has none. All blocks are of one group; a partial one needs the lease of the bucket,
// and so does the rest of a block whose deletion was interrupted.
func (s *stoppable) epoch(op, name string) uint64 {
	for lease, content := range s.leases {
		now, _, err := s.Memory.GetVersion(context.Background(), lease, 1<<20)
		var r struct {
			Name, Owner string
			Epoch       uint64
		}
		if err != nil || string(now) != content || json.Unmarshal(now, &r) != nil || r.Owner == "" {
			continue
		}
		partial, bucketWide := strings.HasPrefix(name, blocktest.ID("partial").String()), r.Name == "bucket"
		if partial == bucketWide || op == "delete" && bucketWide {
			return r.Epoch
		}
	}
	return 0
}

// fencedWrite says whether an operation changes a block in the eyes of others.
func fencedWrite(op string) bool {
	kind, name, _ := strings.Cut(op, " ")
	if strings.HasPrefix(name, "hindsight/") || !strings.Contains(name, "/") {
		return false
	}
	return kind == "delete" || kind == "upload" && (path.Base(name) == block.MetaFile || strings.HasSuffix(name, "-mark.json"))
}

func (s *stoppable) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	s.begin(ctx, "list", dir)
	return s.Memory.List(ctx, dir, f)
}

func (s *stoppable) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	s.begin(ctx, "get", name)
	return s.Memory.Get(ctx, name)
}

func (s *stoppable) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	s.begin(ctx, "get_range", name)
	return s.Memory.GetRange(ctx, name, off, length)
}

func (s *stoppable) Stat(ctx context.Context, name string) (bucket.Object, error) {
	s.begin(ctx, "stat", name)
	return s.Memory.Stat(ctx, name)
}

func (s *stoppable) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	s.begin(ctx, "upload", name)
	if err := s.Memory.Upload(ctx, name, r, size); err != nil || s.fail == nil {
		return err
	}
	return s.fail("upload " + name)
}

func (s *stoppable) Delete(ctx context.Context, name string) error {
	s.begin(ctx, "delete", name)
	return s.Memory.Delete(ctx, name)
}

func (s *stoppable) GetVersion(ctx context.Context, name string, limit int64) ([]byte, bucket.Version, error) {
	s.begin(ctx, "get", name)
	return s.Memory.GetVersion(ctx, name, limit)
}

func (s *stoppable) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (bucket.Version, error) {
	s.begin(ctx, "put", name)
	v, err := s.Memory.PutIf(ctx, name, data, old)
	if err == nil {
		s.mu.Lock()
		s.leases[name] = string(data)
		s.mu.Unlock()
	}
	return v, err
}

// fencedBucket is a bucket of crashBucket with a partial block of three days.
func fencedBucket(t *testing.T, start *bucket.Memory) *bucket.Memory {
	t.Helper()
	b := copyBucket(t, start)
	for _, rel := range []string{"chunks/000001", block.IndexFile} {
		name := block.Path(blocktest.ID("partial"), rel)
		require.NoError(t, b.Upload(t.Context(), name, strings.NewReader("x"), 1))
		b.SetModified(name, time.Now().Add(-72*time.Hour))
	}
	return b
}

// blocksIn are the names of the objects of blocks, without the blocks' ids.
func blocksIn(t *testing.T, b bucket.Bucket) []string {
	t.Helper()
	var out []string
	for _, name := range list(t, b) {
		if strings.HasPrefix(name, "hindsight/") {
			continue
		}
		if _, rel, ok := strings.Cut(name, "/"); ok {
			out = append(out, rel)
		}
	}
	slices.Sort(out)
	return out
}

// endState is what two compactors have to agree on.
type endState struct {
	live    []string
	content map[string][]sample
	objects []string
}

func endOf(t *testing.T, b bucket.Bucket) endState {
	t.Helper()
	return endState{live(t, b), content(t, b), blocksIn(t, b)}
}

// pausedSite is the bucket of all cases with a paused compactor.
type pausedSite struct {
	start *bucket.Memory
	// want is the end state of one compactor that is not paused, ops are its calls.
	want endState
	ops  []string
}

func newPausedSite(t *testing.T) *pausedSite {
	t.Helper()
	s := &pausedSite{}
	synctest.Test(t, func(t *testing.T) {
		s.start = blocktest.Bucket(t, crashBucket())
		b := fencedBucket(t, s.start)
		compactor := newStoppable(b, func(op string) bool {
			s.ops = append(s.ops, op)
			return false
		})
		require.NoError(t, newCompactor(t, compactor, crashFlags...).RunOnce(t.Context()))
		require.NoError(t, newCompactor(t, b, crashFlags...).RunOnce(t.Context()))
		require.Empty(t, compactor.late)
		s.want = endOf(t, b)
	})
	return s
}

// takeOver stops a compactor, lets another one take over and do all the work, and
// continues the first one. The bucket is then as one compactor leaves it. It returns
// whether the compactor stopped, and its error.
func (s *pausedSite) takeOver(t *testing.T, stop func(*bucket.Memory) *stoppable) (stopped bool, failed error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := fencedBucket(t, s.start)
		paused := stop(b)
		done := make(chan error)
		flags := append([]string{"--compact.lease-duration=10s"}, crashFlags...) // less than the time for a withdrawal
		go func() { done <- newCompactor(t, paused, flags...).RunOnce(t.Context()) }()
		synctest.Wait()
		require.NoError(t, newCompactor(t, b, flags...).RunOnce(t.Context()))
		if strings.HasPrefix(paused.stopped, "upload ") && strings.HasSuffix(paused.stopped, block.MetaFile) {
			// The objects for which the meta.json is go as those of a failed upload.
			time.Sleep(72 * time.Hour)
			require.NoError(t, newCompactor(t, b, crashFlags...).RunOnce(t.Context()))
		}
		close(paused.resume)
		if failed = <-done; failed != nil {
			// It may have planned a job on blocks that are deleted since.
			require.NotContains(t, failed.Error(), "panic")
		}
		stopped = paused.stopped != ""
		require.Empty(t, paused.late, "writes without a lease")
		require.NotEmpty(t, paused.leases)
		time.Sleep(72 * time.Hour)
		require.NoError(t, newCompactor(t, b, crashFlags...).RunOnce(t.Context()))
		got := endOf(t, b)
		require.Equal(t, s.want.live, got.live)
		require.Equal(t, s.want.content, got.content)
		require.Equal(t, s.want.objects, got.objects, "no object is left")
	})
	return stopped, failed
}

// pausePoint is the n-th call of a kind.
type pausePoint struct {
	op string // without the id of the block
	n  int
}

// callKind is a call without the id of its block.
func callKind(op string) string {
	kind, name, _ := strings.Cut(op, " ")
	id, rel, _ := strings.Cut(name, "/")
	if id == blocktest.ID("partial").String() {
		kind = "partial " + kind
	}
	return kind + " " + rel
}

// fencedPoints are writes that need a lease: all, or of each kind one or two.
func (s *pausedSite) fencedPoints(all bool) (points []pausePoint, counts map[string]int) {
	counts = map[string]int{}
	for _, op := range s.ops {
		if fencedWrite(op) {
			counts[callKind(op)]++
		}
	}
	for op, n := range counts {
		for i := range n {
			if all || i == 0 || i == n/2 && strings.HasPrefix(op, "upload meta") {
				points = append(points, pausePoint{op, i})
			}
		}
	}
	return points, counts
}

// TestRunOnce_PausedOwnerDoesNoHarm stops a compactor between the check of its lease and
// each kind of write that the lease is for, and at accesses in between; with
// HINDSIGHT_TEST_EXHAUSTIVE=1 before every single one.
func TestRunOnce_PausedOwnerDoesNoHarm(t *testing.T) {
	s := newPausedSite(t)
	all := os.Getenv("HINDSIGHT_TEST_EXHAUSTIVE") != ""
	points, counts := s.fencedPoints(all)
	require.GreaterOrEqual(t, len(counts), 7, "%v", counts)
	var pauses, lost atomic.Int64
	t.Run("pause", func(t *testing.T) {
		at := func(what string, must bool, stop func(*bucket.Memory) *stoppable) {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				stopped, failed := s.takeOver(t, stop)
				require.True(t, stopped || !must)
				if stopped {
					pauses.Add(1)
				}
				if failed != nil {
					lost.Add(1)
				}
			})
		}
		for _, p := range points {
			at(fmt.Sprintf("before %s %d", p.op, p.n), true, func(b *bucket.Memory) *stoppable {
				n := -1
				return newStoppable(b, func(op string) bool {
					if callKind(op) == p.op {
						n++
					}
					return n == p.n
				})
			})
		}
		step := 61
		if all {
			step = 1
		}
		for n := 10; n < len(s.ops); n += step {
			at(fmt.Sprintf("at access %d", n), false, func(b *bucket.Memory) *stoppable {
				calls := 0
				return newStoppable(b, func(string) bool { calls++; return calls == n })
			})
		}
	})
	t.Logf("%d accesses, %d fenced writes %v; stopped at %d places; %d times the stopped compactor reported an error", len(s.ops), len(points), counts, pauses.Load(), lost.Load())
}

// TestRunOnce_LostAnswerIsNotWithdrawn loses the answer to the write of a meta.json, and
// stops the compactor before the next deletion. Another one sees the block and marks and
// deletes its sources; so the block must stay.
func TestRunOnce_LostAnswerIsNotWithdrawn(t *testing.T) {
	site := newPausedSite(t)
	for _, n := range []int{2, 3} { // the last merge, and what is downsampled of its result
		var result string
		_, failed := site.takeOver(t, func(b *bucket.Memory) *stoppable {
			s := newStoppable(b, func(op string) bool {
				return result != "" && strings.HasPrefix(op, "delete "+result)
			})
			metas := -1
			s.fail = func(op string) error {
				if s.mu.Lock(); path.Base(op) == block.MetaFile {
					metas++
				}
				defer s.mu.Unlock()
				if metas == n && result == "" {
					result = strings.TrimPrefix(path.Dir(op), "upload ")
					return buckettest.ErrInjected
				}
				return nil
			}
			return s
		})
		require.ErrorIs(t, failed, block.ErrMayBePublished)
		require.ErrorIs(t, failed, buckettest.ErrInjected)
	}
}
