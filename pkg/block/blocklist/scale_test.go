package blocklist_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// wide is a read-only bucket of very many blocks that counts its requests.
type wide struct {
	bucket.Reader // nil: a test fails on calls other than List and Get
	objects       []bucket.Object
	metas         map[string][]byte
	pages, gets   atomic.Int64
}

func blockID(n int) ulid.ULID {
	var id ulid.ULID
	if err := id.SetTime(1_700_000_000_000 + uint64(n)*1000); err != nil {
		panic(err)
	}
	copy(id[6:], fmt.Sprintf("%010d", n))
	return id
}

// add adds the n-th block: with the objects and the meta.json of a typical
// compacted block.
func (w *wide) add(n int) {
	id := blockID(n)
	m := &block.Meta{}
	m.ULID, m.Version, m.MinTime, m.MaxTime = id, 1, int64(n)*7200_000, int64(n+1)*7200_000
	m.Stats.NumSamples, m.Stats.NumSeries, m.Stats.NumChunks = 120_000_000, 1_000_000, 1_000_000
	m.Compaction.Level = 2
	for i := range 12 {
		m.Compaction.Sources = append(m.Compaction.Sources, blockID(n*12+i))
	}
	m.Thanos.Labels = map[string]string{"cluster": fmt.Sprintf("cluster-%d", n%50), "replica": "0", "region": "eu-west-1"}
	m.Thanos.Source = block.SourceCompactor
	m.Thanos.UploadTime = time.Unix(1_700_000_000, 0).UTC()
	modified := time.Unix(1_700_000_000, int64(n))
	for _, rel := range []string{"chunks/000001", "index"} {
		m.Thanos.Files = append(m.Thanos.Files, block.File{RelPath: rel, SizeBytes: 500_000_000})
		w.objects = append(w.objects, bucket.Object{Name: block.Path(id, rel), Size: 500_000_000, LastModified: modified})
	}
	data, err := m.Encode()
	if err != nil {
		panic(err)
	}
	name := block.Path(id, block.MetaFile)
	w.metas[name] = data
	w.objects = append(w.objects, bucket.Object{Name: name, Size: int64(len(data)), LastModified: modified})
}

func newWide(n int) *wide {
	w := &wide{metas: make(map[string][]byte, n)}
	for i := range n {
		w.add(i)
	}
	return w
}

const pageSize = 1000

func (w *wide) List(_ context.Context, _ string, f func(bucket.Object) error) error {
	w.pages.Add(int64((len(w.objects) + pageSize - 1) / pageSize))
	for _, o := range w.objects {
		// As from the wire, where every page has fresh strings.
		o.Name = strings.Clone(o.Name)
		if err := f(o); err != nil {
			return err
		}
	}
	return nil
}

func (w *wide) Get(_ context.Context, name string) (io.ReadCloser, error) {
	w.gets.Add(1)
	return io.NopCloser(bytes.NewReader(w.metas[name])), nil
}

// TestPoll_CostsOneListingAndTheNewBlocks adds ten blocks to ten thousand.
func TestPoll_CostsOneListingAndTheNewBlocks(t *testing.T) {
	const known, fresh, filesPerBlock = 10_000, 10, 3
	w := newWide(known)
	p := blocklist.NewPoller(w, blocklist.Config{})
	v, err := p.Poll(t.Context())
	require.NoError(t, err)
	require.Len(t, v.Metas, known)
	require.EqualValues(t, known, w.gets.Load())

	for i := range fresh {
		w.add(known + i)
	}
	w.gets.Store(0)
	w.pages.Store(0)
	v, err = p.Poll(t.Context())
	require.NoError(t, err)
	require.Len(t, v.Metas, known+fresh)
	require.EqualValues(t, fresh, w.gets.Load())
	require.LessOrEqual(t, w.pages.Load(), int64((known+fresh)*filesPerBlock/pageSize+1))
}

// TestPoll_AcceptsUnsortedListing has a provider that lists in another order.
func TestPoll_AcceptsUnsortedListing(t *testing.T) {
	w := newWide(100)
	p := blocklist.NewPoller(w, blocklist.Config{})
	sorted, err := p.Poll(t.Context())
	require.NoError(t, err)
	slices.SortFunc(w.objects, func(a, b bucket.Object) int { return strings.Compare(a.Name[20:], b.Name[20:]) })
	v, err := p.Poll(t.Context())
	require.NoError(t, err)
	require.Len(t, v.Metas, 100)
	require.Empty(t, v.Partial)
	require.Equal(t, sorted.Sizes, v.Sizes)
	require.EqualValues(t, 100, w.gets.Load(), "nothing is read again")
}

func BenchmarkPoll(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("blocks=%d/first", n), func(b *testing.B) {
			w := newWide(n)
			var p *blocklist.Poller
			before := heap()
			for b.Loop() {
				p = blocklist.NewPoller(w, blocklist.Config{})
				if _, err := p.Poll(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(heap()-before)/float64(n), "heap-bytes/block")
			b.ReportMetric(float64(w.gets.Load())/float64(b.N), "GETs/op")
			runtime.KeepAlive(p)
		})
		b.Run(fmt.Sprintf("blocks=%d/ten-new", n), func(b *testing.B) {
			w := newWide(n)
			p := blocklist.NewPoller(w, blocklist.Config{})
			if _, err := p.Poll(b.Context()); err != nil {
				b.Fatal(err)
			}
			w.gets.Store(0)
			w.pages.Store(0)
			next := n
			for b.Loop() {
				b.StopTimer()
				for range 10 {
					w.add(next)
					next++
				}
				b.StartTimer()
				if _, err := p.Poll(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(w.gets.Load())/float64(b.N), "GETs/op")
			b.ReportMetric(float64(w.pages.Load())/float64(b.N), "list-pages/op")
		})
	}
}

func BenchmarkFilters(b *testing.B) {
	v, err := blocklist.NewPoller(newWide(100_000), blocklist.Config{}).Poll(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range []blocklist.Filter{
		blocklist.TimePartition(0, 1<<60), blocklist.ConsistencyDelay(time.Minute), blocklist.DeletionMarkDelay(time.Hour),
		blocklist.Duplicates(), blocklist.Superseded(),
	} {
		b.Run(f.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.Apply(f)
			}
		})
	}
}

// BenchmarkReadIndex starts with one GET instead of one for each block.
func BenchmarkReadIndex(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("blocks=%d", n), func(b *testing.B) {
			w := newWide(n)
			p := blocklist.NewPoller(w, blocklist.Config{})
			if _, err := p.Poll(b.Context()); err != nil {
				b.Fatal(err)
			}
			mem := bucket.NewMemory()
			if err := p.WriteIndex(b.Context(), mem); err != nil {
				b.Fatal(err)
			}
			o, err := mem.Stat(b.Context(), blocklist.IndexName)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := blocklist.NewPoller(mem, blocklist.Config{}).ReadIndex(b.Context(), time.Hour); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(o.Size)/float64(n), "index-bytes/block")
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
