package outage

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/sidecar/blocks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// makeBlock writes a block with a sample every ten milliseconds into dir.
func makeBlock(t testing.TB, dir string, mint, maxt int64) ulid.ULID {
	t.Helper()
	var samples []chunks.Sample
	for at := mint; at < maxt; at += 10 {
		samples = append(samples, sample(at))
	}
	path, err := tsdb.CreateBlock([]storage.Series{storage.NewListSeries(labels.FromStrings("__name__", "m"), samples)}, dir, 1_000_000, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return ulid.MustParse(filepath.Base(path))
}

// sample is a float at a time, with that time as its value.
type sample int64

func (s sample) T() int64                      { return int64(s) }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return float64(s) }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// fakeHead makes a block of the times [from, to) of each conversion, and counts them.
type fakeHead struct {
	t        testing.TB
	from, to int64
	lost     string
	err      error
	// during, if not nil, is called in the middle of a conversion.
	during func()
	count  int
}

func (h *fakeHead) Convert(_ context.Context, _, out string) (string, error) {
	h.count++
	if h.during != nil {
		h.during()
	}
	if h.err == nil {
		makeBlock(h.t, out, h.from, h.to)
	}
	return h.lost, h.err
}

type site struct {
	t      testing.TB
	path   string
	head   *fakeHead
	reader *Reader
}

// newSite has blocks of the times 0 to 2000, and a log.
func newSite(t *testing.T) *site {
	s := &site{t: t, path: t.TempDir()}
	s.head = &fakeHead{t: t, from: 2000, to: 2500}
	makeBlock(t, s.path, 0, 1000)
	makeBlock(t, s.path, 1000, 2000)
	s.append("wal/00000001", "abc")
	temp := filepath.Join(s.path, "thanos", "outage")
	require.NoError(t, os.MkdirAll(filepath.Join(temp, "head-7", "x"), 0o755))
	s.reader = New(Config{Path: s.path, Temp: temp, Wait: time.Minute, Retry: time.Hour}, s.head, slog.New(slog.DiscardHandler), NewMetrics(nil))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.reader.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return s
}

func (s *site) append(name, content string) {
	s.t.Helper()
	name = filepath.Join(s.path, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(name), 0o755))
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(s.t, err)
	_, err = f.WriteString(content)
	require.NoError(s.t, errors.Join(err, f.Close()))
}

// read returns the number of different times that the view has, and its gaps.
func (s *site) read() (int, []blocks.Gap) {
	s.t.Helper()
	v, err := s.reader.Acquire(s.t.Context())
	require.NoError(s.t, err)
	defer v.Release()
	q, err := v.ChunkQuerier(math.MinInt64, math.MaxInt64)
	require.NoError(s.t, err)
	defer q.Close()
	times := map[int64]bool{}
	set := q.Select(s.t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() {
			for x := it.At().Chunk.Iterator(nil); x.Next() != chunkenc.ValNone; {
				times[x.AtT()] = true
			}
		}
	}
	require.NoError(s.t, set.Err())
	return len(times), v.Gaps(math.MinInt64, math.MaxInt64)
}

func (s *site) heads() (names []string) {
	s.t.Helper()
	entries, err := os.ReadDir(s.reader.cfg.Temp)
	require.NoError(s.t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestReader_ConvertsOncePerLog(t *testing.T) {
	s := newSite(t)
	for range 3 {
		n, gaps := s.read()
		require.Equal(t, 250, n)
		require.Empty(t, gaps)
	}
	require.Equal(t, 1, s.head.count)
	require.Equal(t, []string{"head-1"}, s.heads(), "that of an earlier life is gone")

	// A start of Prometheus adds an empty segment. A block that is deleted, or being
	// written, changes no log either.
	s.append("wal/00000002", "")
	s.append("thanos/other", "x")
	makeBlock(t, s.path, -1000, 0)
	require.NoError(t, os.Mkdir(filepath.Join(s.path, ulid.Make().String()+".tmp-for-creation"), 0o755))
	n, gaps := s.read()
	require.Equal(t, 350, n)
	require.Empty(t, gaps)
	require.Equal(t, 1, s.head.count)

	s.append("wbl/00000001", "abc")
	s.head.to = 3000
	n, _ = s.read()
	require.Equal(t, 400, n)
	require.Equal(t, 2, s.head.count)
	require.Equal(t, []string{"head-2"}, s.heads())

	// Prometheus answered in between. A view of before is read to its end.
	v, err := s.reader.Acquire(t.Context())
	require.NoError(t, err)
	s.reader.Answering()
	require.Eventually(t, func() bool { return len(s.heads()) == 0 }, 10*time.Second, time.Millisecond)
	q, err := v.ChunkQuerier(2000, 3000)
	require.NoError(t, err)
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	require.True(t, set.Next())
	require.NoError(t, q.Close())
	v.Release()
	n, _ = s.read()
	require.Equal(t, 400, n)
	require.Equal(t, 3, s.head.count)
}

func TestReader_ConvertsAgainWhenLogChangesMeanwhile(t *testing.T) {
	s := newSite(t)
	s.head.during = func() {
		if s.head.count == 1 {
			// Prometheus cut a block and truncated its log.
			makeBlock(t, s.path, 2000, 2200)
			s.append("wal/00000002", "x")
			s.head.from = 2200
		}
	}
	n, gaps := s.read()
	require.Equal(t, 250, n)
	require.Empty(t, gaps)
	require.Equal(t, 2, s.head.count)

	s.append("wal/00000002", "y")
	s.head.during = func() { s.append("wal/00000002", "x") }
	n, gaps = s.read()
	require.Equal(t, 250, n)
	require.Len(t, gaps, 1)
	require.Contains(t, gaps[0].Text, "changes while it is read")
	require.Equal(t, 2+maxBuilds, s.head.count)
}

func TestReader_NamesGaps(t *testing.T) {
	s := newSite(t)
	s.head.err = errors.New("bad record")
	n, gaps := s.read()
	require.Equal(t, 200, n)
	require.Equal(t, []blocks.Gap{{MinTime: 1991, MaxTime: math.MaxInt64, Text: "the write-ahead log cannot be read: convert the log of Prometheus: bad record"}}, gaps)
	_, _ = s.read()
	require.Equal(t, 1, s.head.count, "repeated after a pause only")
	require.Empty(t, s.heads())

	// A head that is not whole. Out-of-order samples of any time may be lost.
	s.append("wbl/00000001", "abc")
	s.head.err, s.head.lost = nil, "3 bytes at 1 place"
	n, gaps = s.read()
	require.Equal(t, 250, n)
	require.Len(t, gaps, 1)
	require.Equal(t, int64(math.MinInt64), gaps[0].MinTime)
	require.Contains(t, gaps[0].Text, "3 bytes")
}

// supersede writes a block with the parents, and removes its index if it is to be
// damaged.
func (s *site) supersede(from, to int64, damaged bool, parents ...ulid.ULID) ulid.ULID {
	s.t.Helper()
	id := makeBlock(s.t, s.path, from, to)
	name := filepath.Join(s.path, id.String(), "meta.json")
	raw, err := os.ReadFile(name)
	require.NoError(s.t, err)
	list := ""
	for _, p := range parents {
		list += `,{"ulid":"` + p.String() + `"}`
	}
	text := string(raw)
	at := len(`"compaction": {`) + strings.Index(text, `"compaction": {`)
	require.NoError(s.t, os.WriteFile(name, []byte(text[:at]+`"parents":[`+list[1:]+`],`+text[at:]), 0o644))
	if damaged {
		require.NoError(s.t, os.Remove(filepath.Join(s.path, id.String(), "index")))
	}
	return id
}

func TestReader_ReadsCompactedBlockOrItsParents(t *testing.T) {
	s := newSite(t)
	a, b := makeBlock(t, s.path, -2000, -1000), makeBlock(t, s.path, -1000, 0)
	child := s.supersede(-2000, -500, false, a, b)
	listing, err := blocks.List(s.path)
	require.NoError(t, err)
	require.Len(t, listing.Blocks, 5)
	for _, got := range listing.Newest(nil) {
		require.NotContains(t, []ulid.ULID{a, b}, got.ID)
	}
	n, gaps := s.read()
	require.Equal(t, 400, n, "only the child counts")
	require.Empty(t, gaps)

	require.NoError(t, os.RemoveAll(filepath.Join(s.path, child.String())))
	s.supersede(-2000, -500, true, a, b)
	n, gaps = s.read()
	require.Equal(t, 450, n)
	require.Empty(t, gaps)

	require.NoError(t, os.RemoveAll(filepath.Join(s.path, a.String())))
	_, gaps = s.read()
	require.Len(t, gaps, 1)
	require.Equal(t, int64(-2000), gaps[0].MinTime)
	require.Contains(t, gaps[0].Text, "cannot be read")
}

func TestReader_WaitsOnlyForSomeTime(t *testing.T) {
	s := newSite(t)
	s.reader.cfg.Wait = time.Millisecond
	end := make(chan struct{})
	s.head.during = func() { <-end }
	require.Eventually(t, func() bool {
		v, err := s.reader.Acquire(t.Context())
		if err != nil {
			return false // the blocks are still being opened
		}
		defer v.Release()
		gaps := v.Gaps(math.MinInt64, math.MaxInt64)
		require.Len(t, gaps, 1)
		require.Contains(t, gaps[0].Text, "still being read")
		require.Empty(t, v.Gaps(0, 1990), "blocks have that")
		return true
	}, 10*time.Second, time.Millisecond)
	close(end)
	s.reader.cfg.Wait = time.Minute
	_, gaps := s.read()
	require.Empty(t, gaps)
}

// A view of an earlier log is not used, whatever its gaps are: they do not name what the
// log has got since.
func TestReader_RefusesViewOfEarlierLog(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		s := &site{t: t, path: t.TempDir(), head: &fakeHead{t: t, from: 2000, to: 2500}}
		id := makeBlock(t, s.path, 0, 1000)
		if damaged {
			require.NoError(t, os.Remove(filepath.Join(s.path, id.String(), "index")))
		}
		s.append("wal/00000001", "abc")
		s.reader = New(Config{Path: s.path, Temp: t.TempDir(), Wait: time.Millisecond}, s.head, slog.New(slog.DiscardHandler), NewMetrics(nil))
		now, err := stateOf(s.path)
		require.NoError(t, err)
		s.reader.ensure(now)
		<-s.reader.wanted
		s.reader.rebuild(t.Context())
		_, gaps := s.read()
		require.Equal(t, damaged, len(gaps) > 0)

		s.append("wal/00000001", "def") // and the next build has not begun
		_, err = s.reader.Acquire(t.Context())
		require.ErrorIs(t, err, errStillRead)
		<-s.reader.wanted
		s.reader.rebuild(t.Context())
		_, _ = s.read()
		s.reader.forget()
	}
}
