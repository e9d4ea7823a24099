package shipper_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/shipper"
)

const three = `
block c range=4h..6h
  up 4h..6h/1m:1+1
block a range=0s..2h labels={inner="kept",cluster="replaced"}
  up 0s..2h/1m:1+1
block b range=2h..4h
  up 2h..4h/1m:1+1
`

func extLabels() labels.Labels { return labels.FromStrings("cluster", "eu", "replica", "0") }

func id(name string) ulid.ULID { return blocktest.ID(name) }

type env struct {
	dir  string
	mem  *bucket.Memory
	bkt  *buckettest.Faulty
	logs bytes.Buffer
	reg  *prometheus.Registry
}

func newEnv(t *testing.T, text string) *env {
	e := &env{dir: blocktest.Dir(t, text), mem: bucket.NewMemory(), reg: prometheus.NewRegistry()}
	e.bkt = buckettest.NewFaulty(e.mem, nil)
	return e
}

func (e *env) shipper(cfg shipper.Config) *shipper.Shipper {
	cfg.Dir, cfg.Source = e.dir, block.SourceSidecar
	return shipper.New(cfg, shipper.Deps{
		Bucket: e.bkt, Labels: extLabels, Metrics: shipper.NewMetrics(e.reg),
		Logger: slog.New(slog.NewTextHandler(&e.logs, nil)),
	})
}

// restarted is another process in the same directory.
func (e *env) restarted(cfg shipper.Config) *shipper.Shipper {
	e.reg = prometheus.NewRegistry()
	return e.shipper(cfg)
}

// order returns the names of the blocks whose meta.json was uploaded.
func order(t *testing.T, e *env) []string {
	t.Helper()
	out := []string{}
	for _, op := range e.bkt.Calls(false) {
		if op.Kind == "upload" && strings.HasSuffix(op.Name, "/"+block.MetaFile) {
			uid, _, ok := block.ParsePath(op.Name)
			require.True(t, ok)
			out = append(out, strings.TrimRight(string(uid[6:]), "\x00"))
		}
	}
	return out
}

// listed returns the blocks in the state file.
func listed(t *testing.T, dir string) []ulid.ULID {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "thanos.shipper.json"))
	require.NoError(t, err)
	var state struct{ Uploaded []ulid.ULID }
	require.NoError(t, json.Unmarshal(data, &state))
	return state.Uploaded
}

// counter is the value of a counter without labels.
func counter(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.Fail(t, "no such counter", name)
	return 0
}

func TestSync(t *testing.T) {
	e := newEnv(t, three)
	require.NoError(t, os.MkdirAll(filepath.Join(e.dir, id("x").String()+".tmp-for-creation"), 0o777))
	require.NoError(t, os.MkdirAll(filepath.Join(e.dir, "wal"), 0o777))
	s := e.shipper(shipper.Config{})
	require.False(t, s.Shipped(id("a")))
	n, err := s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, []string{"a", "b", "c"}, order(t, e), "the oldest first")
	require.True(t, s.Shipped(id("a")))

	m, err := block.ReadMeta(t.Context(), e.mem, id("a"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"cluster": "eu", "replica": "0", "inner": "kept"}, m.Thanos.Labels)
	require.Equal(t, block.SourceSidecar, m.Thanos.Source)
	require.Equal(t, []string{"000001"}, m.Thanos.SegmentFiles)
	require.Len(t, m.Thanos.Files, 3)
	local, err := block.ReadMetaDir(filepath.Join(e.dir, id("b").String()))
	require.NoError(t, err)
	require.Empty(t, local.Thanos.Labels, "the block of Prometheus is not touched")

	state, err := os.ReadFile(filepath.Join(e.dir, "thanos.shipper.json"))
	require.NoError(t, err)
	require.Equal(t, "{\n\t\"version\": 1,\n\t\"uploaded\": [\n\t\t\""+id("a").String()+"\",\n\t\t\""+id("b").String()+"\",\n\t\t\""+id("c").String()+"\"\n\t]\n}\n", string(state))
	left, err := os.ReadDir(filepath.Join(e.dir, "thanos", "upload"))
	require.NoError(t, err)
	require.Empty(t, left)

	e.bkt.Calls(true)
	n, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, e.bkt.Calls(true), "nothing to do costs no request")

	// A restart trusts the state file; without one it asks the bucket.
	s = e.restarted(shipper.Config{})
	require.True(t, s.Shipped(id("b")))
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Empty(t, e.bkt.Calls(true))
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, "thanos.shipper.json"), []byte("{bro"), 0o666))
	s = e.restarted(shipper.Config{})
	n, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.Len(t, e.bkt.Calls(true), 3)
	require.Contains(t, e.logs.String(), "shipper state file unreadable")

	// A block that is gone leaves the state file.
	require.NoError(t, os.RemoveAll(filepath.Join(e.dir, id("a").String())))
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, []ulid.ULID{id("b"), id("c")}, listed(t, e.dir))
	require.False(t, s.Shipped(id("a")))
}

// TestSync_ShipsColumns ships the columns object with each block, and the block without it where
// the object fails.
func TestSync_ShipsColumns(t *testing.T) {
	e := newEnv(t, three)
	columns := func() (n int, bytes int64) {
		require.NoError(t, e.mem.List(t.Context(), "", func(o bucket.Object) error {
			if strings.Contains(o.Name, "/columns-v1-") {
				n++
			}
			bytes += o.Size
			return nil
		}))
		return n, bytes
	}
	e.bkt.SetRule(func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" && strings.Contains(op.Name, id("b").String()+"/columns-v1-") {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	n, err := e.shipper(shipper.Config{Columns: true}).Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	objects, bytes := columns()
	require.Equal(t, 2, objects)
	require.Equal(t, 1.0, counter(t, e.reg, "hindsight_shipper_columns_failures_total"))
	require.Zero(t, counter(t, e.reg, "hindsight_shipper_upload_failures_total"))
	var meta int64 // meta.json is not counted
	require.NoError(t, e.mem.List(t.Context(), "", func(o bucket.Object) error {
		if strings.HasSuffix(o.Name, "/"+block.MetaFile) {
			meta += o.Size
		}
		return nil
	}))
	require.Equal(t, float64(bytes-meta), counter(t, e.reg, "hindsight_shipper_uploaded_bytes_total"))
	require.Contains(t, e.logs.String(), `level=WARN msg="block shipped without columns" block=`+id("b").String())
	require.Equal(t, 1, strings.Count(e.logs.String(), "level=WARN"))
	left, err := os.ReadDir(filepath.Join(e.dir, "thanos", "upload"))
	require.NoError(t, err)
	require.Empty(t, left)
	dir, err := os.ReadDir(filepath.Join(e.dir, id("a").String()))
	require.NoError(t, err)
	require.Len(t, dir, 3, "nothing is written into the block of Prometheus")

	// A block is whole without the object.
	e.bkt.SetRule(nil)
	n, err = e.restarted(shipper.Config{Columns: true, RecheckInterval: time.Nanosecond}).Sync(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestUploadFailureStopsThePass(t *testing.T) {
	e := newEnv(t, three)
	broken := func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" && op.Name == block.Path(id("b"), "index") {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	}
	e.bkt.SetRule(broken)
	s := e.shipper(shipper.Config{})
	n, err := s.Sync(t.Context())
	require.ErrorIs(t, err, buckettest.ErrInjected)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"a"}, order(t, e))
	require.Equal(t, []ulid.ULID{id("a")}, listed(t, e.dir), "after a failure too")

	e.bkt.SetRule(nil)
	n, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []string{"a", "b", "c"}, order(t, e))

	e = newEnv(t, three)
	e.bkt.SetRule(broken)
	n, err = e.shipper(shipper.Config{AllowOutOfOrder: true}).Sync(t.Context())
	require.ErrorIs(t, err, buckettest.ErrInjected)
	require.Equal(t, 2, n)
	require.Equal(t, []string{"a", "c"}, order(t, e))
}

func TestCorruptBlockDoesNotStopOthers(t *testing.T) {
	e := newEnv(t, three)
	index := filepath.Join(e.dir, id("b").String(), "index")
	data, err := os.ReadFile(index)
	require.NoError(t, err)
	bad := bytes.Clone(data)
	bad[len(bad)/2] ^= 1
	require.NoError(t, os.WriteFile(index, bad, 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, id("a").String(), "meta.json"), []byte("{"), 0o666))
	s := e.shipper(shipper.Config{})
	for range 2 {
		n, err := s.Sync(t.Context())
		require.ErrorContains(t, err, id("a").String())
		require.ErrorContains(t, err, id("b").String())
		require.LessOrEqual(t, n, 1)
	}
	require.Equal(t, []string{"c"}, order(t, e))
	require.Equal(t, 2, strings.Count(e.logs.String(), "corrupt block not shipped"), "each is logged once")
	require.NoError(t, testutil.GatherAndCompare(e.reg, strings.NewReader(`
# HELP hindsight_shipper_corrupted_blocks Local blocks that are corrupt and therefore not shipped.
# TYPE hindsight_shipper_corrupted_blocks gauge
hindsight_shipper_corrupted_blocks 2
`), "hindsight_shipper_corrupted_blocks"))

	_, err = e.restarted(shipper.Config{SkipCorrupted: true}).Sync(t.Context())
	require.NoError(t, err)

	// A block that was mended is shipped.
	require.NoError(t, os.WriteFile(index, data, 0o666))
	require.NoError(t, os.Chtimes(index, time.Unix(1, 0), time.Unix(1, 0)))
	n, err := s.Sync(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), id("b").String())
	require.Equal(t, 1, n)
}

func TestSkipped(t *testing.T) {
	e := newEnv(t, `
block a range=0s..2h
block b range=2h..8h level=2 sources=p,q
  up 2h..8h/10m:1+1
block c range=8h..10h
  up 8h..10h/10m:1+1
`)
	s := e.shipper(shipper.Config{})
	for range 2 {
		_, err := s.Sync(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, []string{"c"}, order(t, e))
	require.Equal(t, 2, strings.Count(e.logs.String(), "block not shipped"), "never silently, and once")
	require.False(t, s.Shipped(id("b")))

	n, err := e.restarted(shipper.Config{UploadCompacted: true}).Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"c", "b"}, order(t, e))
}

// TestCompactedOfShipped: Prometheus merges blocks that were shipped, twice.
func TestCompactedOfShipped(t *testing.T) {
	e := newEnv(t, three)
	s := e.shipper(shipper.Config{})
	_, err := s.Sync(t.Context())
	require.NoError(t, err)
	e.bkt.Calls(true)
	compact := func(name string, level int, parents ...string) {
		m := &block.Meta{}
		m.ULID, m.MinTime, m.MaxTime = id(name), 0, 1
		m.Compaction.Level = level
		m.Compaction.Sources = []ulid.ULID{id("a"), id("b"), id("c")}
		for _, p := range parents {
			m.Compaction.Parents = append(m.Compaction.Parents, tsdb.BlockDesc{ULID: id(p)})
			require.NoError(t, os.RemoveAll(filepath.Join(e.dir, id(p).String())))
		}
		m.Stats.NumSamples = 1
		require.NoError(t, blocktest.Write(t.Context(), filepath.Join(e.dir, m.ULID.String()), m, nil))
	}
	compact("m", 2, "a", "b")
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.True(t, s.Shipped(id("m")))
	compact("n", 3, "m", "c")
	s = e.restarted(shipper.Config{UploadCompacted: true})
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.True(t, s.Shipped(id("n")))
	require.Empty(t, e.bkt.Calls(true), "the bucket need not be asked")

	compact("x", 2, "p", "q")
	s = e.restarted(shipper.Config{})
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.False(t, s.Shipped(id("x")))
	require.Contains(t, e.logs.String(), "sources_not_shipped")
	require.NoError(t, testutil.GatherAndCompare(e.reg, strings.NewReader(`
# HELP hindsight_shipper_unshipped_compacted_blocks Local compacted blocks that are not shipped although not all their source blocks were: their data may be missing in the bucket.
# TYPE hindsight_shipper_unshipped_compacted_blocks gauge
hindsight_shipper_unshipped_compacted_blocks 1
`), "hindsight_shipper_unshipped_compacted_blocks"))
}

func TestCompactedBlockMustNotOverlap(t *testing.T) {
	const local = `
block m range=0s..8h level=2 sources=p,q
  up 0s..8h/10m:1+1
`
	cfg := shipper.Config{UploadCompacted: true}

	e := newEnv(t, local)
	blocktest.Fill(t, e.mem, `meta r range=6h..10h labels={cluster="eu",replica="0"}`)
	_, err := e.shipper(cfg).Sync(t.Context())
	require.ErrorContains(t, err, id("r").String())
	require.Empty(t, order(t, e))
	cfg.AllowOutOfOrder = true
	_, err = e.restarted(cfg).Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"m"}, order(t, e))

	cfg.AllowOutOfOrder = false
	e = newEnv(t, local)
	blocktest.Fill(t, e.mem, `
meta r range=6h..10h labels={cluster="eu",replica="1"}
meta s range=8h..10h labels={cluster="eu",replica="0"}
meta u range=0s..8h labels={cluster="eu",replica="0"} resolution=5m
`)
	require.NoError(t, e.mem.Upload(t.Context(), block.Path(id("w"), block.MetaFile), strings.NewReader("{"), 1))
	_, err = e.shipper(cfg).Sync(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"m"}, order(t, e), "other labels, another time, another resolution, or broken")

	// The bucket has what the block was made of.
	e = newEnv(t, local)
	blocktest.Fill(t, e.mem, `
meta p range=0s..4h labels={cluster="eu",replica="0"}
meta q range=4h..8h labels={cluster="eu",replica="0"}
`)
	s := e.shipper(cfg)
	_, err = s.Sync(t.Context())
	require.NoError(t, err)
	require.Empty(t, order(t, e))
	require.True(t, s.Shipped(id("m")))
}

func TestNoLabels(t *testing.T) {
	e := newEnv(t, "block a\n up 0s:1\n")
	s := shipper.New(shipper.Config{Dir: e.dir}, shipper.Deps{Bucket: e.bkt, Labels: labels.EmptyLabels})
	_, err := s.Sync(t.Context())
	require.ErrorIs(t, err, block.ErrNoLabels)
}

func TestCancelled(t *testing.T) {
	e := newEnv(t, three)
	ctx, cancel := context.WithCancel(t.Context())
	e.bkt.SetRule(func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" {
			cancel()
		}
		return buckettest.Fault{}
	})
	_, err := e.shipper(shipper.Config{AllowOutOfOrder: true}).Sync(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, order(t, e))
}
