package claim

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

const interval = 2 * time.Minute

// source is a process with a Keeper.
type source struct {
	*Keeper
	mu     sync.Mutex
	ls     labels.Labels
	cancel context.CancelFunc
	done   chan struct{}
	logs   bytes.Buffer
}

func (s *source) labels() labels.Labels {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ls
}

func (s *source) set(ls labels.Labels) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ls = ls
}

// run starts a source; bkt is what it sees of the bucket.
func run(t *testing.T, bkt bucket.Bucket, dataDir string, ls labels.Labels) *source {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &source{ls: ls, cancel: cancel, done: make(chan struct{})}
	s.Keeper = NewKeeper(Config{
		Bucket: bkt, File: filepath.Join(dataDir, "thanos", "hindsight-source.json"), Directory: dataDir,
		Labels: s.labels, Interval: interval, Logger: slog.New(slog.NewTextHandler(&s.logs, nil)), Registerer: prometheus.NewRegistry(),
	})
	go func() { defer close(s.done); s.Run(ctx) }()
	t.Cleanup(s.stop)
	synctest.Wait()
	return s
}

func (s *source) stop() { s.cancel(); <-s.done }

func killed(b *buckettest.Faulty) {
	b.SetRule(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: bucket.ErrAccessDenied} })
}

func after(d time.Duration) { time.Sleep(d); synctest.Wait() }

func eu(replica string) labels.Labels { return labels.FromStrings("cluster", "eu", "replica", replica) }

func TestKeeper_WarnsBothOfEqualLabels(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		first := run(t, b, dirs[0], eu("a"))
		after(time.Second)
		second := run(t, b, dirs[1], eu("a"))
		other := run(t, b, dirs[2], eu("b"))
		after(3 * interval)
		for _, s := range []*source{first, second} {
			require.Len(t, s.Warnings(), 1)
			require.Contains(t, s.Warnings()[0], "another source has the same external labels")
			require.Equal(t, 1.0, testutil.ToFloat64(s.Keeper.conflicts))
			require.Equal(t, 1, strings.Count(s.logs.String(), "another source has"), "logged once")
		}
		require.Contains(t, first.Warnings()[0], dirs[1])
		require.Contains(t, second.Warnings()[0], dirs[0])
		require.Empty(t, other.Warnings())

		second.set(eu("c"))
		after(2 * interval)
		require.Empty(t, first.Warnings(), "the other has labels of its own now")
		require.Len(t, second.Warnings(), 1)
		require.Contains(t, second.Warnings()[0], "changed from")
		after(changeWarning)
		require.Empty(t, second.Warnings())
		for _, s := range []*source{first, second, other} {
			s.stop()
		}
	})
}

// The pod was killed and is replaced by one with an empty disk; and one was stopped.
func TestKeeper_TakesOverWithoutFalseAlarm(t *testing.T) {
	for _, graceful := range []bool{false, true} {
		dirs := []string{t.TempDir(), t.TempDir()}
		synctest.Test(t, func(t *testing.T) {
			b := bucket.NewMemory()
			old := buckettest.NewFaulty(b, nil)
			s := run(t, old, dirs[0], eu("a"))
			after(10 * interval)
			if !graceful {
				killed(old)
			}
			s.stop()
			next := run(t, b, dirs[1], eu("a"))
			for range 20 {
				after(interval)
				require.Empty(t, next.Warnings())
			}
			all, bad, err := List(t.Context(), b)
			require.NoError(t, err)
			require.Empty(t, bad)
			require.Len(t, all, 2)
			b.SetModified(objectOf(eu("a"), s.id.Instance), time.Now().Add(-expiry))
			after(interval)
			all, _, err = List(t.Context(), b)
			require.NoError(t, err)
			require.Len(t, all, 1, "old claims are removed")
			next.stop()
		})
	}
}

// The same data directory: a restart is no conflict, a copy that runs too is one.
func TestKeeper_KnowsItselfAfterRestart(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		mem := bucket.NewMemory()
		old := buckettest.NewFaulty(mem, nil)
		s := run(t, old, dir, eu("a"))
		after(interval)
		killed(old)
		s.stop()
		s = run(t, mem, dir, eu("a"))
		after(5 * interval)
		require.Empty(t, s.Warnings())
		all, _, err := List(t.Context(), mem)
		require.NoError(t, err)
		require.Len(t, all, 1, "one instance")

		require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
		twin := run(t, mem, copied, eu("a"))
		after(5*interval + time.Second)
		require.Len(t, s.Warnings(), 1)
		require.Contains(t, s.Warnings()[0], "copy of the data directory")
		twin.stop()
		after(5 * interval)
		require.Empty(t, s.Warnings())
		s.stop()
	})
}

// Labels that change at each restart, as with the name of a pod in them.
func TestKeeper_WarnsOfLabelsThatKeepChanging(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		for i, name := range []string{"pod-1", "pod-2", "pod-3", "pod-4"} {
			s := run(t, b, dir, eu(name))
			after(3 * time.Hour)
			if i < 3 {
				require.NotContains(t, strings.Join(s.Warnings(), ""), "within two weeks")
			} else {
				require.Contains(t, s.Warnings()[0], "changed 3 times within two weeks")
			}
			s.stop()
		}
		all, _, err := List(t.Context(), b)
		require.NoError(t, err)
		require.Len(t, all, 4)
		for _, e := range all {
			require.True(t, e.Stopped)
			require.Equal(t, all[0].Instance, e.Instance)
		}
	})
}

func TestKeeper_GoesOnAfterFailures(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := buckettest.NewFaulty(bucket.NewMemory(), func(op buckettest.Op) buckettest.Fault {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		})
		s := run(t, b, dir, eu("a"))
		after(3*interval + time.Second)
		require.Equal(t, 4.0, testutil.ToFloat64(s.failures))
		require.Equal(t, 1, strings.Count(s.logs.String(), "not renewed"))
		b.SetRule(nil)
		after(interval)
		all, _, err := List(t.Context(), b)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Equal(t, 4.0, testutil.ToFloat64(s.failures))

		// Without labels, nothing is claimed.
		s.set(labels.EmptyLabels())
		b.Calls(true)
		after(3 * interval)
		require.Empty(t, b.Calls(true))
		s.stop()
	})
}

func TestKeeper_ReplacesOwnClaimThatIsMalformed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		s := run(t, b, dir, eu("a"))
		for _, text := range []string{"{", "", `{"version": 2}`, strings.Repeat(" ", maxSize+1)} {
			require.NoError(t, b.Upload(t.Context(), objectOf(eu("a"), s.id.Instance), strings.NewReader(text), int64(len(text))))
			after(interval)
			all, bad, err := List(t.Context(), b)
			require.NoError(t, err)
			require.Empty(t, bad)
			require.Len(t, all, 1)
		}
		require.Zero(t, testutil.ToFloat64(s.failures))
		s.stop()
	})
}

// An object that is no claim of this version hides no other source.
func TestKeeper_IgnoresMalformedClaimsOfOthers(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		b := bucket.NewMemory()
		for _, text := range []string{"{", `{"version": 2}`, strings.Repeat(" ", maxSize+1)} {
			name := fmt.Sprintf("%s/%s/0%d.json", dir, hash(eu("a")), len(text))
			require.NoError(t, b.Upload(t.Context(), name, strings.NewReader(text), int64(len(text))))
		}
		first, second := run(t, b, dirs[0], eu("a")), run(t, b, dirs[1], eu("a"))
		after(3 * interval)
		for _, s := range []*source{first, second} {
			require.Len(t, s.Warnings(), 1)
			require.Contains(t, s.Warnings()[0], "another source has the same external labels")
			require.Zero(t, testutil.ToFloat64(s.failures))
			s.stop()
		}
	})
}

func TestList_LeavesOutForeignObjects(t *testing.T) {
	b := bucket.NewMemory()
	good := &Claim{Version: 1, Instance: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Labels: map[string]string{"a": "b"}}
	require.NoError(t, write(t.Context(), b, good))
	put := func(name, text string) {
		require.NoError(t, b.Upload(t.Context(), name, strings.NewReader(text), int64(len(text))))
	}
	put(dir+"/x/y.json", "{")
	put(dir+"/x/z.json", `{"version":1,"instance":"01ARZ3NDEKTSV4RRFFQ69G5FAV","labels":{"a":"b"}}`)
	put(dir+"/x/v.json", `{"version":2}`)
	put(dir+"/x/big.json", strings.Repeat(" ", maxSize+1))
	all, bad, err := List(t.Context(), b)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, good.Labels, all[0].Labels)
	require.Len(t, bad, 4)
}

func TestIdentity_IsOldOrNewAfterEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		file := filepath.Join(t.TempDir(), "thanos", "id.json")
		first := identity{Version: 1, Instance: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Labels: map[string]string{"a": "1"}}
		second := first
		second.Labels = map[string]string{"a": "2"}
		saved := first.save(fsys, file)
		got, err := loadIdentity(fsys, file)
		require.NoError(t, err)
		if saved == nil {
			require.Equal(t, first, got)
			if second.save(fsys, file) == nil {
				first = second
			}
			got, err = loadIdentity(fsys, file)
			require.NoError(t, err)
			require.Contains(t, []identity{first, second}, got)
		}
	})
	file := filepath.Join(t.TempDir(), "id.json")
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o666))
	_, err := loadIdentity(faultfs.New(vfs.OS(), 0, faultfs.Once), file)
	require.Error(t, err)
}
