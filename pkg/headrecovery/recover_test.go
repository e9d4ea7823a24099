package headrecovery

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/limit"
)

var genID = ulid.MustNew(1_700_000_000_000, nil)

// recoverAll recovers all heads of a bucket that are not growing.
func recoverAll(t testing.TB, bkt bucket.Bucket, work string) ([]*Result, error) {
	t.Helper()
	heads, err := List(t.Context(), bkt, nil, time.Now().Add(time.Hour), time.Minute)
	if err != nil {
		return nil, err
	}
	var out []*Result
	for _, h := range heads {
		if h.State == Damaged || h.State == Unlabelled {
			continue
		}
		r, err := Recover(t.Context(), Config{Bucket: bkt, WorkDir: work}, h, nil)
		out = append(out, r)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// content returns the blocks of a bucket, verified, and the names of its other objects.
func content(t testing.TB, bkt bucket.Reader) (blocks []ulid.ULID, others []string) {
	t.Helper()
	require.NoError(t, bkt.List(context.Background(), "", func(o bucket.Object) error {
		id, rel, ok := block.ParsePath(o.Name)
		switch {
		case ok && rel == block.MetaFile:
			blocks = append(blocks, id)
		case !ok:
			others = append(others, o.Name)
		}
		return nil
	}))
	for _, id := range blocks {
		dir := filepath.Join(t.TempDir(), id.String())
		_, err := block.Download(context.Background(), bkt, id, dir, block.DownloadConfig{})
		require.NoError(t, err)
		_, err = block.Verify(context.Background(), dir)
		require.NoError(t, err)
	}
	return blocks, others
}

func TestRecover_MakesTheBlocksOfTheDirectoryAndRemovesTheHead(t *testing.T) {
	bkt := bucket.NewMemory()
	ship(t, bkt, external, genID, testLogs())
	work := t.TempDir()
	res, err := recoverAll(t, bkt, work)
	require.NoError(t, err)
	require.Len(t, res, 1)
	require.Zero(t, res[0].UnknownSamples)
	blocks, others := content(t, bkt)
	want := directBlocks(t, external, testLogs())
	require.Len(t, want, 3)
	require.ElementsMatch(t, want, blocks)
	require.Empty(t, others)
	left, err := os.ReadDir(work)
	require.NoError(t, err)
	require.Empty(t, left)
	m, err := block.ReadMeta(t.Context(), bkt, blocks[0])
	require.NoError(t, err)
	require.Equal(t, external.Map(), m.Thanos.Labels)
	require.Equal(t, 1, m.Compaction.Level)
}

// A process that is killed at any call on the bucket, before or after the call had its
// effect, loses nothing: the next one leaves the blocks of a single run.
func TestRecover_KilledAtEachCall(t *testing.T) {
	want := directBlocks(t, external, testBatches(3))
	killed := errors.New("killed")
	for _, after := range []bool{false, true} {
		at := -1
		if after {
			at = 0
		}
		for {
			at += 2 // the other calls are those of the other case
			mem := bucket.NewMemory()
			ship(t, mem, external, genID, testBatches(3))
			n := 0
			var mu sync.Mutex
			bkt := buckettest.NewFaulty(mem, func(buckettest.Op) buckettest.Fault {
				mu.Lock()
				defer mu.Unlock()
				n++
				switch {
				case n < at:
					return buckettest.Fault{}
				case n == at:
					return buckettest.Fault{Err: killed, AfterEffect: after}
				}
				return buckettest.Fault{Err: killed}
			})
			_, err := recoverAll(t, bkt, t.TempDir())
			blocks, others := content(t, mem)
			if len(others) < 7 {
				require.ElementsMatch(t, want, blocks, "call %d: pieces were removed before all blocks were there", at)
			}
			if err == nil {
				require.Greater(t, n, 20)
				break
			}
			require.ErrorIs(t, err, killed)
			_, err = recoverAll(t, mem, t.TempDir())
			require.NoError(t, err, "call %d", at)
			blocks, others = content(t, mem)
			require.ElementsMatch(t, want, blocks, "call %d", at)
			require.Empty(t, others, "call %d", at)
		}
	}
}

// Two processes that recover one head at the same time leave the blocks of one.
func TestRecover_TwoAtOnce(t *testing.T) {
	want := directBlocks(t, external, testLogs())
	for range 3 {
		bkt := bucket.NewMemory()
		ship(t, bkt, external, genID, testLogs())
		var wg sync.WaitGroup
		for range 2 {
			work := t.TempDir()
			wg.Go(func() {
				if _, err := recoverAll(t, bkt, work); err != nil && !errors.Is(err, bucket.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		_, err := recoverAll(t, bkt, t.TempDir())
		require.NoError(t, err)
		blocks, others := content(t, bkt)
		require.ElementsMatch(t, want, blocks)
		require.Empty(t, others)
	}
}

// A source that ships again while its head is recovered keeps its pieces.
func TestRecover_KeepsHeadThatGrows(t *testing.T) {
	mem := bucket.NewMemory()
	logs := testLogs()
	dir := ship(t, mem, external, genID, logs[:20])
	grown := bucket.NewMemory()
	ship(t, grown, external, genID, logs)
	bkt := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" && strings.HasSuffix(op.Name, recoveredName) {
			ship(t, mem, external, genID, logs)
		}
		return buckettest.Fault{}
	})
	res, err := recoverAll(t, bkt, t.TempDir())
	require.NoError(t, err)
	require.True(t, res[0].Grown)
	_, others := content(t, mem)
	_, all := content(t, grown)
	require.Equal(t, all, others)
	require.NotContains(t, others, dir+"/"+recoveredName)
	// Once it is gone for good, all of it is recovered.
	_, err = recoverAll(t, mem, t.TempDir())
	require.NoError(t, err)
	blocks, others := content(t, mem)
	require.Subset(t, blocks, directBlocks(t, external, logs))
	require.Empty(t, others)
}

func TestRecover_KeepsHeadThatIsDamaged(t *testing.T) {
	bkt := bucket.NewMemory()
	dir := ship(t, bkt, external, genID, testLogs())
	heads, err := list(t.Context(), bkt, dir)
	require.NoError(t, err)
	bad := heads[0].Pieces[10]
	b, err := bucket.ReadAll(t.Context(), bkt, bad.Object, 1<<20)
	require.NoError(t, err)
	b[len(b)-20] ^= 1
	require.NoError(t, bkt.Upload(t.Context(), bad.Object, strings.NewReader(string(b)), int64(len(b))))

	res, err := recoverAll(t, bkt, t.TempDir())
	require.NoError(t, err)
	require.Equal(t, 1, res[0].Loss.Places)
	require.Contains(t, res[0].Loss.First, bad.Object)
	blocks, _ := content(t, bkt)
	require.Len(t, blocks, 3, "all but the damaged piece is recovered")
	heads, err = List(t.Context(), bkt, nil, time.Now().Add(time.Hour), time.Minute)
	require.NoError(t, err)
	require.Equal(t, Damaged, heads[0].State)
	require.Len(t, heads[0].Pieces, 24)
	_, err = Recover(t.Context(), Config{Bucket: bkt, WorkDir: t.TempDir()}, heads[0], nil)
	require.NoError(t, err)
	_, others := content(t, bkt)
	require.Empty(t, others)
}

// The limit holds also when the listing has no sizes, as on S3.
func TestRecover_RefusesHeadThatIsLargerThanDisk(t *testing.T) {
	mem := bucket.NewMemory()
	ship(t, mem, external, genID, testLogs())
	for _, bkt := range []bucket.Bucket{mem, &timeless{mem}} {
		counted := buckettest.NewFaulty(bkt, nil)
		heads, err := List(t.Context(), counted, nil, time.Now().Add(time.Hour), time.Minute)
		require.NoError(t, err)
		before := counted.Count("get")
		_, err = Recover(t.Context(), Config{Bucket: counted, WorkDir: t.TempDir(), Disk: 1000, DiskFlag: "--disk"}, heads[0], nil)
		var e *limit.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "--disk", e.Flag)
		require.Equal(t, before, counted.Count("get"), "nothing was downloaded")
	}
}

// Samples that a block has are left out, and a head with nothing else is only removed.
func TestRecover_LeavesOutWhatBlocksHave(t *testing.T) {
	meta := func(from, to float64) map[ulid.ULID]*block.Meta {
		m := &block.Meta{}
		m.ULID = ulid.Make()
		m.MinTime, m.MaxTime = hours(from), hours(to)
		m.Compaction.Level = 1
		m.Thanos.Labels = external.Map()
		return map[ulid.ULID]*block.Meta{m.ULID: m}
	}
	bkt := bucket.NewMemory()
	ship(t, bkt, external, genID, testLogs())
	heads, err := List(t.Context(), bkt, meta(0, 2), time.Now().Add(time.Hour), time.Minute)
	require.NoError(t, err)
	require.Equal(t, Lost, heads[0].State)
	res, err := Recover(t.Context(), Config{Bucket: bkt, WorkDir: t.TempDir()}, heads[0], meta(0, 2))
	require.NoError(t, err)
	require.Len(t, res.Blocks, 3)
	samples := uint64(0)
	for _, m := range res.Blocks {
		samples += m.Stats.NumSamples
	}
	require.EqualValues(t, 3*150+2, samples, "without the first hour, but with its late samples")

	logs := testLogs()
	for i := range logs {
		logs[i].late = nil
	}
	ship(t, bkt, external, genID, logs)
	heads, err = List(t.Context(), bkt, meta(0, 6), time.Now().Add(time.Hour), time.Minute)
	require.NoError(t, err)
	require.Equal(t, InBlocks, heads[0].State)
	res, err = Recover(t.Context(), Config{Bucket: bkt, WorkDir: t.TempDir()}, heads[0], meta(0, 6))
	require.NoError(t, err)
	require.Empty(t, res.Blocks)
	_, others := content(t, bkt)
	require.Empty(t, others)
}

func TestCovered(t *testing.T) {
	f := func(name string, want tombstones.Intervals, change func(m *block.Meta)) {
		t.Helper()
		m := &block.Meta{}
		m.ULID = ulid.Make()
		m.MinTime, m.MaxTime = 0, 4*3_600_000
		m.Compaction.Level = 1
		m.Thanos.Labels = external.Map()
		change(m)
		require.Equal(t, want, tombstones.Intervals(Covered(map[ulid.ULID]*block.Meta{m.ULID: m}, external)), name)
	}
	all := tombstones.Intervals{{Mint: 0, Maxt: 4*3_600_000 - 1}}
	f("cut from the head", all, func(*block.Meta) {})
	f("of another source", nil, func(m *block.Meta) { m.Thanos.Labels = map[string]string{"a": "b"} })
	f("downsampled", nil, func(m *block.Meta) { m.Thanos.Downsample.Resolution = block.Resolution5m })
	f("out of order", nil, func(m *block.Meta) { m.Compaction.SetOutOfOrder() })
	var recovered ulid.ULID
	require.NoError(t, recovered.SetEntropy([]byte("01234567HB")))
	f("recovered", nil, func(m *block.Meta) { m.ULID = recovered })
	parents := func(sources int, times ...float64) func(m *block.Meta) {
		return func(m *block.Meta) {
			m.Compaction.Level = 2
			for i := range sources {
				m.Compaction.Sources = append(m.Compaction.Sources, ulid.MustNew(uint64(i), nil))
			}
			for i := 0; i < len(times); i += 2 {
				m.Compaction.Parents = append(m.Compaction.Parents, tsdb.BlockDesc{MinTime: int64(times[i] * 3_600_000), MaxTime: int64(times[i+1] * 3_600_000)})
			}
		}
	}
	f("compacted", all, parents(2, 2, 4, 0, 2))
	f("compacted with a recovered one", nil, func(m *block.Meta) {
		parents(1, 0, 2, 2, 4)(m)
		m.Compaction.Sources = append(m.Compaction.Sources, recovered)
	})
	f("compacted without a part", nil, parents(1, 0, 4))
	f("compacted by a program that writes no parents", nil, parents(2))
	f("compacted twice", nil, parents(4, 0, 2, 2, 4))
	f("compacted with a gap", nil, parents(2, 0, 2, 2.1, 4))
	f("compacted with a gap, and with out-of-order samples", nil, parents(3, 0, 2, 2, 4, 2.1, 4))
	f("compacted without its beginning", nil, parents(2, 0.1, 2, 2, 4))
	f("compacted without its end", nil, parents(2, 0, 2, 2, 3.9))
}

func TestList_StatesOfHeads(t *testing.T) {
	bkt := bucket.NewMemory()
	ship(t, bkt, external, genID, testLogs())
	other := labels.FromStrings("cluster", "us")
	dir := ship(t, bkt, other, genID, testLogs())
	require.NoError(t, bkt.Delete(t.Context(), dir+"/"+headlog.InfoName))
	heads, err := List(t.Context(), bkt, nil, time.Now(), time.Hour)
	require.NoError(t, err)
	require.Len(t, heads, 2)
	for _, h := range heads {
		require.Equal(t, Growing, h.State)
		require.EqualValues(t, []int64{hours(1), hours(4.5) - 60_000}, []int64{h.MinTime, h.MaxTime})
	}
	heads, err = List(t.Context(), bkt, nil, time.Now().Add(2*time.Hour), time.Hour)
	require.NoError(t, err)
	states := map[string]State{}
	for _, h := range heads {
		states[h.Source] = h.State
	}
	require.Equal(t, map[string]State{headlog.Source(external): Lost, headlog.Source(other): Unlabelled}, states)
}
