package shipper_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/shipper"
)

// remove deletes objects of a block, without the order of block.Delete.
func (e *env) remove(t *testing.T, name string, keep ...string) {
	t.Helper()
	var names []string
	require.NoError(t, e.mem.List(t.Context(), id(name).String(), func(o bucket.Object) error {
		names = append(names, o.Name)
		return nil
	}))
	for _, n := range names {
		if _, rel, _ := block.ParsePath(n); len(keep) == 0 || rel != keep[0] {
			require.NoError(t, e.mem.Delete(t.Context(), n))
		}
	}
}

// later runs a pass after a time in which each block is looked up, and returns the blocks
// that it shipped.
func (e *env) later(t *testing.T, s *shipper.Shipper) []string {
	t.Helper()
	time.Sleep(25 * time.Hour)
	e.bkt.Calls(true)
	_, err := s.Sync(t.Context())
	require.NoError(t, err)
	return order(t, e)
}

func TestSync_ShipsVanishedBlocksAgain(t *testing.T) {
	e := newEnv(t, three)
	synctest.Test(t, func(t *testing.T) {
		cfg := shipper.Config{RecheckInterval: 3 * time.Hour}
		s := e.shipper(cfg)
		_, err := s.Sync(t.Context())
		require.NoError(t, err)
		require.Empty(t, e.later(t, s))
		require.Equal(t, 3, e.bkt.Count("list"), "one request for each block")

		e.remove(t, "b")
		time.Sleep(time.Hour)
		e.bkt.Calls(true)
		_, err = s.Sync(t.Context())
		require.NoError(t, err)
		require.Empty(t, e.bkt.Calls(true), "it is not looked up at each pass")
		require.Equal(t, []string{"b"}, e.later(t, s))
		require.Equal(t, 3, visibleBlocks(t, e.mem))
		require.Equal(t, []ulid.ULID{id("a"), id("b"), id("c")}, listed(t, e.dir))
		require.Contains(t, e.logs.String(), "reason=vanished_from_bucket")

		// The next process does it too, and for an upload that was cut short.
		e.remove(t, "a")
		index := block.Path(id("c"), block.IndexFile)
		require.NoError(t, e.mem.Upload(t.Context(), index, strings.NewReader("half"), 4))
		s = e.restarted(cfg)
		_, err = s.Sync(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"a", "c"}, e.later(t, s))
		require.Equal(t, 3, visibleBlocks(t, e.mem))
		require.Contains(t, e.logs.String(), "reason=size_mismatch")

		// Something removes the block each time: it is not shipped for ever.
		for range 1 {
			e.remove(t, "c")
			require.Equal(t, []string{"c"}, e.later(t, s))
		}
		e.remove(t, "c")
		require.Empty(t, e.later(t, s))
		require.Contains(t, e.logs.String(), "was shipped again already")
	})
}

// Blocks leave the bucket on purpose: the mark was seen, or is left; or others were made
// of them.
func TestSync_LeavesBlocksThatWereDeletedOnPurpose(t *testing.T) {
	e := newEnv(t, three+"\nblock d range=6h..8h\n  up 6h..8h/1m:1+1\n")
	synctest.Test(t, func(t *testing.T) {
		cfg := shipper.Config{RecheckInterval: 3 * time.Hour}
		s := e.shipper(cfg)
		_, err := s.Sync(t.Context())
		require.NoError(t, err)

		for _, name := range []string{"a", "b"} {
			_, err = block.MarkDeletion(t.Context(), e.mem, id(name), "", time.Now())
			require.NoError(t, err)
		}
		e.remove(t, "b", block.DeletionMarkFile)
		blocktest.Fill(t, e.mem, `meta m range=0s..8h labels={cluster="eu"} level=2 sources=c,x`)
		e.remove(t, "c")
		rewritten := &block.Meta{}
		rewritten.ULID, rewritten.MaxTime = id("r"), 1
		rewritten.Compaction.Sources = []ulid.ULID{id("r")}
		rewritten.Thanos.Labels = map[string]string{"cluster": "eu"}
		rewritten.Thanos.Rewrites = []byte(`[{"sources":["` + id("d").String() + `"]}]`)
		require.NoError(t, blocktest.UploadMeta(t.Context(), e.mem, rewritten))
		e.remove(t, "d")
		require.Empty(t, e.later(t, s))

		for _, name := range []string{"a", "b", "m", "r"} {
			e.remove(t, name)
		}
		require.Empty(t, e.later(t, s))
		s = e.restarted(cfg)
		_, err = s.Sync(t.Context())
		require.NoError(t, err)
		require.Empty(t, e.later(t, s), "the next process knows it too")
		require.Zero(t, e.bkt.Count("list"))
		require.Len(t, listed(t, e.dir), 4, "Prometheus need not wait for them")
	})
}

func TestSync_RecheckFailsWithTheBucket(t *testing.T) {
	e := newEnv(t, three)
	synctest.Test(t, func(t *testing.T) {
		s := e.shipper(shipper.Config{RecheckInterval: 3 * time.Hour})
		_, err := s.Sync(t.Context())
		require.NoError(t, err)
		time.Sleep(3 * time.Hour)
		e.bkt.SetRule(func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "list" {
				return buckettest.Fault{Err: buckettest.ErrInjected}
			}
			return buckettest.Fault{}
		})
		_, err = s.Sync(t.Context())
		require.ErrorIs(t, err, buckettest.ErrInjected)
		require.True(t, s.Shipped(id("a")), "a failed look tells nothing")
		e.bkt.SetRule(nil)
		require.Empty(t, e.later(t, s))
	})
}

// named gives a bucket another name.
type named struct {
	bucket.Bucket
	name string
}

func (n named) Name() string { return n.name }

func TestSync_ShipsToAnotherBucketFromTheBeginning(t *testing.T) {
	e := newEnv(t, three)
	_, err := e.shipper(shipper.Config{}).Sync(t.Context())
	require.NoError(t, err)
	other := bucket.NewMemory()
	s := shipper.New(shipper.Config{Dir: e.dir}, shipper.Deps{Bucket: named{other, "other"}, Labels: extLabels})
	require.False(t, s.Shipped(id("a")))
	n, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, 3, visibleBlocks(t, other))
}

// Prometheus merges a block with one of out-of-order samples that was not shipped yet.
func TestSync_ShipsMergeOfOverlappingBlocks(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		e := newEnv(t, "block a range=0s..2h\n up 0s..2h/1m:1+1\n")
		cfg := shipper.Config{BlockDuration: 2 * time.Hour, UploadCompacted: compacted}
		s := e.shipper(cfg)
		_, err := s.Sync(t.Context())
		require.NoError(t, err)
		require.NoError(t, os.RemoveAll(filepath.Join(e.dir, id("a").String())))
		merged := blocktest.Dir(t, `
block m range=0s..2h level=2 sources=a,o
  up 0s..2h/30s:1+1
block n range=2h..8h level=2 sources=p,q
  up 2h..8h/10m:1+1
`)
		require.NoError(t, os.Rename(filepath.Join(merged, id("m").String()), filepath.Join(e.dir, id("m").String())))
		if !compacted {
			require.NoError(t, os.Rename(filepath.Join(merged, id("n").String()), filepath.Join(e.dir, id("n").String())))
		}
		_, err = s.Sync(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"a", "m"}, order(t, e), "not n, which is longer than a block")
	}
}

func TestSync_OverlapDoesNotStopOthers(t *testing.T) {
	e := newEnv(t, `
block m range=0s..8h level=2 sources=p,q
  up 0s..8h/10m:1+1
block n range=8h..10h
  up 8h..10h/10m:1+1
`)
	blocktest.Fill(t, e.mem, `meta r range=6h..8h labels={cluster="eu",replica="0"}`)
	s := e.shipper(shipper.Config{UploadCompacted: true})
	for range 2 {
		_, err := s.Sync(t.Context())
		require.ErrorContains(t, err, "overlaps with block "+id("r").String())
	}
	require.Equal(t, []string{"n"}, order(t, e))
	require.Equal(t, 1, e.bkt.Count("list"), "the second pass does not list the bucket again")
	require.NoError(t, testutil.GatherAndCompare(e.reg, strings.NewReader(`
# HELP hindsight_shipper_overlapping_blocks Local compacted blocks that are not shipped because they overlap with blocks of the bucket.
# TYPE hindsight_shipper_overlapping_blocks gauge
hindsight_shipper_overlapping_blocks 1
# HELP hindsight_shipper_unshipped_since_timestamp_seconds Unix time of the oldest sample that is in a local block and should be in the bucket but is not; 0 when there is none.
# TYPE hindsight_shipper_unshipped_since_timestamp_seconds gauge
hindsight_shipper_unshipped_since_timestamp_seconds 0.001
`), "hindsight_shipper_overlapping_blocks", "hindsight_shipper_unshipped_since_timestamp_seconds"))
}

// An index that cannot be read is neither corrupt nor a failure of the bucket.
func TestSync_UnreadableBlockDoesNotStopOthers(t *testing.T) {
	e := newEnv(t, three)
	index := filepath.Join(e.dir, id("a").String(), "index")
	require.NoError(t, os.Remove(index))
	require.NoError(t, os.Mkdir(index, 0o777))
	_, err := e.shipper(shipper.Config{}).Sync(t.Context())
	require.ErrorContains(t, err, id("a").String())
	require.Equal(t, []string{"b", "c"}, order(t, e))
}

func TestSync_ShipsRepairedBlocks(t *testing.T) {
	e := newEnv(t, three)
	files := map[string][]byte{
		filepath.Join(e.dir, id("a").String(), "meta.json"):        nil,
		filepath.Join(e.dir, id("b").String(), "chunks", "000001"): nil,
	}
	for name := range files {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		files[name] = data
		require.NoError(t, os.WriteFile(name, data[:len(data)/2], 0o666))
	}
	s := e.shipper(shipper.Config{SkipCorrupted: true})
	_, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"c"}, order(t, e))
	require.Equal(t, 2.0, gauge(t, e, "hindsight_shipper_corrupted_blocks"))
	for name, data := range files {
		require.NoError(t, os.WriteFile(name, data, 0o666))
	}
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"c", "a", "b"}, order(t, e))
	require.Zero(t, gauge(t, e, "hindsight_shipper_corrupted_blocks"))
}

// Where hard links are refused, the blocks are copied.
func TestSync_CopiesBlocksWithoutHardLinks(t *testing.T) {
	for _, refusal := range []error{syscall.EPERM, syscall.EXDEV, syscall.EOPNOTSUPP} {
		e := newEnv(t, three)
		tries := 0
		s := shipper.New(shipper.Config{Dir: e.dir}, shipper.Deps{Bucket: e.bkt, Labels: extLabels, Link: func(from, to string) error {
			tries++
			return &os.LinkError{Op: "link", Old: from, New: to, Err: refusal}
		}})
		_, err := s.Sync(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, tries)
		require.Equal(t, 3, visibleBlocks(t, e.mem))
	}
}

// Prometheus deletes a block that it has merged at the moment of its upload: before its
// files are listed, before the first one is linked, or between two of them. The block is
// gone, not corrupt.
func TestSync_DeletedBlockIsNotCorrupt(t *testing.T) {
	for at := range 3 {
		e := newEnv(t, three)
		steps := 0
		step := func() {
			if steps == at {
				require.NoError(t, os.RemoveAll(filepath.Join(e.dir, id("a").String())))
			}
			steps++
		}
		s := shipper.New(shipper.Config{Dir: e.dir}, shipper.Deps{
			Bucket: e.bkt, Metrics: shipper.NewMetrics(e.reg),
			Labels: func() labels.Labels { step(); return extLabels() },
			Link:   func(from, to string) error { step(); return os.Link(from, to) },
		})
		_, err := s.Sync(t.Context())
		require.ErrorContains(t, err, "was deleted before it was shipped")
		require.Zero(t, gauge(t, e, "hindsight_shipper_corrupted_blocks"))
		_, err = s.Sync(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"b", "c"}, order(t, e))
	}
}

// Prometheus that waits for the shipper compacts nothing after a block that the state
// file does not list.
func TestSync_ListsEmptyBlocks(t *testing.T) {
	e := newEnv(t, "block a range=0s..2h\nblock b range=2h..4h\n up 2h:1\n")
	s := e.shipper(shipper.Config{})
	_, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, order(t, e))
	require.Equal(t, []ulid.ULID{id("a"), id("b")}, listed(t, e.dir))
}

// gauge returns the value of a metric without labels.
func gauge(t *testing.T, e *env, name string) float64 {
	t.Helper()
	families, err := e.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			if f.GetMetric()[0].GetGauge() == nil {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestMetrics_ShowProgress(t *testing.T) {
	e := newEnv(t, three)
	const since = "hindsight_shipper_unshipped_since_timestamp_seconds"
	down := errors.New("down")
	failing := ""
	e.bkt.SetRule(func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" && strings.HasPrefix(op.Name, id("a").String()) {
			require.Equal(t, 3.0, gauge(t, e, "hindsight_shipper_pending_blocks"), "during the first upload")
		}
		if failing != "" && strings.HasPrefix(op.Name, failing) {
			return buckettest.Fault{Err: down}
		}
		return buckettest.Fault{}
	})
	failing = id("b").String()
	m := shipper.NewMetrics(e.reg)
	open := func(dir string) *shipper.Shipper {
		return shipper.New(shipper.Config{Dir: dir}, shipper.Deps{Bucket: e.bkt, Labels: extLabels, Metrics: m})
	}
	_, err := open(e.dir).Sync(t.Context())
	require.ErrorIs(t, err, down)
	require.Equal(t, 7200.0, gauge(t, e, since))
	require.Equal(t, 2.0, gauge(t, e, "hindsight_shipper_pending_blocks"))
	require.Positive(t, gauge(t, e, "hindsight_shipper_pending_bytes"))
	require.Positive(t, gauge(t, e, "hindsight_shipper_uploaded_bytes_total"))

	// Another tenant of the same process has older samples, and then none.
	other := blocktest.Dir(t, "block b range=1h..2h\n up 1h..2h/1m:1+1\n")
	_, err = open(other).Sync(t.Context())
	require.ErrorIs(t, err, down)
	require.Equal(t, 3600.0, gauge(t, e, since))
	require.Equal(t, 3.0, gauge(t, e, "hindsight_shipper_pending_blocks"))
	require.NoError(t, os.RemoveAll(filepath.Join(other, id("b").String())))
	_, err = open(other).Sync(t.Context()) // as when the tenant was closed meanwhile
	require.NoError(t, err)
	require.Equal(t, 7200.0, gauge(t, e, since))
	require.Equal(t, 2.0, gauge(t, e, "hindsight_shipper_pending_blocks"))

	failing = ""
	_, err = open(e.dir).Sync(t.Context())
	require.NoError(t, err)
	require.Zero(t, gauge(t, e, since))
	require.Zero(t, gauge(t, e, "hindsight_shipper_pending_blocks"))
	require.Zero(t, gauge(t, e, "hindsight_shipper_pending_bytes"))
}
