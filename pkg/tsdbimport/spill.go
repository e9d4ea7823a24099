package tsdbimport

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"

	"github.com/hindsight-io/hindsight/pkg/headblock"
	"github.com/hindsight-io/hindsight/pkg/limit"
)

const (
	// windowLength is the length of blocks in milliseconds, as Prometheus cuts them.
	windowLength = 2 * 3600 * 1000
	// maxWindows bounds the blocks of an import: three and a half years of samples. More
	// come from wrong timestamps, rather than from so much data.
	maxWindows = 16384
	// batch is the number of samples of a window that are written at once.
	batch = 256
	// maxSeen bounds the number of series that are known to be in the files of windows. A
	// series record that is written again is harmless.
	maxSeen = 4 << 20
	// seriesOverhead is the memory of a series beside its labels, about.
	seriesOverhead = 96
)

// spill distributes samples over the files of windows.
type spill struct {
	dir    string
	memory int64
	flag   string

	bytes   int64 // of labels
	series  []labels.Labels
	last    []int64 // time of the newest sample of each series
	byHash  map[uint64][]int32
	windows map[int64]*window
	seen    int
	enc     record.Encoder
	read    uint64
}

// window is the file of one window, with the samples that are not written yet.
type window struct {
	path        string
	size        int64
	seen        map[int32]struct{}
	order, late []record.RefSample
	buf         []byte
}

func newSpill(dir string, memory int64, flag string) *spill {
	return &spill{dir: dir, memory: memory, flag: flag, byHash: map[uint64][]int32{}, windows: map[int64]*window{}}
}

// ref returns the number of a series.
func (s *spill) ref(lset labels.Labels) (int32, error) {
	h := lset.Hash()
	for _, i := range s.byHash[h] {
		if labels.Equal(s.series[i], lset) {
			return i, nil
		}
	}
	if err := checkSeries(lset); err != nil {
		return 0, err
	}
	if s.bytes += int64(lset.ByteSize()) + seriesOverhead; s.bytes > s.memory {
		return 0, &limit.Error{
			What: "bytes of memory", Flag: s.flag, Max: s.memory, Needed: s.bytes,
			Detail: fmt.Sprintf("labels of the first %d series of the input", len(s.series)+1),
		}
	}
	i := int32(len(s.series))
	s.series, s.last = append(s.series, lset), append(s.last, -1<<63)
	s.byHash[h] = append(s.byHash[h], i)
	return i, nil
}

// add takes one sample.
func (s *spill) add(lset labels.Labels, sample Sample) error {
	i, err := s.ref(lset)
	if err != nil {
		return err
	}
	s.read++
	w, err := s.window(sample.T)
	if err != nil {
		return err
	}
	if _, ok := w.seen[i]; !ok {
		if s.seen++; s.seen > maxSeen {
			for _, other := range s.windows {
				clear(other.seen)
			}
			s.seen = 1
		}
		w.seen[i] = struct{}{}
		w.put(headblock.WALLog, s.enc.Series([]record.RefSeries{{Ref: chunks.HeadSeriesRef(i + 1), Labels: lset}}, nil))
	}
	late := sample.T < s.last[i]
	s.last[i] = max(s.last[i], sample.T)
	ref := chunks.HeadSeriesRef(i + 1)
	switch {
	case sample.H != nil || sample.FH != nil:
		s.flushSamples(w) // floats before it come first
		w.put(logOf(late), s.histogram(ref, sample))
	case late:
		w.late = append(w.late, record.RefSample{Ref: ref, T: sample.T, V: sample.V})
	default:
		w.order = append(w.order, record.RefSample{Ref: ref, T: sample.T, V: sample.V})
	}
	if len(w.order)+len(w.late) >= batch {
		s.flushSamples(w)
	}
	if len(w.buf) >= 16*batch {
		return w.write()
	}
	return nil
}

func logOf(late bool) headblock.Log {
	if late {
		return headblock.WBLLog
	}
	return headblock.WALLog
}

// histogram encodes one histogram.
func (s *spill) histogram(ref chunks.HeadSeriesRef, sample Sample) []byte {
	if sample.H != nil {
		list := []record.RefHistogramSample{{Ref: ref, T: sample.T, H: sample.H}}
		rec, custom := s.enc.HistogramSamples(list, nil)
		if len(custom) > 0 {
			return s.enc.CustomBucketsHistogramSamples(custom, nil)
		}
		return rec
	}
	list := []record.RefFloatHistogramSample{{Ref: ref, T: sample.T, FH: sample.FH}}
	rec, custom := s.enc.FloatHistogramSamples(list, nil)
	if len(custom) > 0 {
		return s.enc.CustomBucketsFloatHistogramSamples(custom, nil)
	}
	return rec
}

// window returns the window of a time. The bounds of a window, and the exclusive end of a
// block, must be numbers that an int64 can hold.
func (s *spill) window(t int64) (*window, error) {
	if t < math.MinInt64+windowLength || t > math.MaxInt64-windowLength {
		return nil, fmt.Errorf("timestamp %d is not plausible as milliseconds", t)
	}
	start := t - t%windowLength
	if t%windowLength < 0 {
		start -= windowLength
	}
	w := s.windows[start]
	if w == nil {
		if len(s.windows) == maxWindows {
			return nil, fmt.Errorf("the input has samples of more than %d windows of two hours; its timestamps are not plausible as milliseconds, or a part of it has to be imported", maxWindows)
		}
		w = &window{path: filepath.Join(s.dir, fmt.Sprintf("window-%d", start)), seen: map[int32]struct{}{}}
		s.windows[start] = w
	}
	return w, nil
}

// flushSamples encodes the floats that wait.
func (s *spill) flushSamples(w *window) {
	if len(w.order) > 0 {
		w.put(headblock.WALLog, s.enc.Samples(w.order, nil))
	}
	if len(w.late) > 0 {
		w.put(headblock.WBLLog, s.enc.Samples(w.late, nil))
	}
	w.order, w.late = w.order[:0], w.late[:0]
}

// finish writes what waits.
func (s *spill) finish() error {
	for _, w := range s.windows {
		s.flushSamples(w)
		if err := w.write(); err != nil {
			return err
		}
		w.seen, w.order, w.late, w.buf = nil, nil, nil, nil
	}
	return nil
}

// put appends a record: its log in one byte, its length in four, its bytes.
func (w *window) put(l headblock.Log, rec []byte) {
	w.buf = append(w.buf, byte(l))
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(rec)))
	w.buf = append(w.buf, rec...)
}

// write appends the records to the file. Files are not kept open: there are many.
func (w *window) write() (err error) {
	f, err := os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := f.Write(w.buf)
	w.size += int64(n)
	w.buf = w.buf[:0]
	return err
}

// Size implements headblock.Source.
func (w *window) Size() int64 { return w.size }

// Records implements headblock.Source.
func (w *window) Records(ctx context.Context, f func(l headblock.Log, rec []byte) error) (loss headblock.Loss, err error) {
	file, err := os.Open(w.path)
	if err != nil {
		return loss, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	r := bufio.NewReaderSize(file, 1<<20)
	var rec []byte
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return loss, ctx.Err()
			}
			return loss, err
		}
		n := int(binary.BigEndian.Uint32(head[1:]))
		if cap(rec) < n {
			rec = make([]byte, n)
		}
		rec = rec[:n]
		if _, err := io.ReadFull(r, rec); err != nil {
			return loss, err
		}
		if err := f(headblock.Log(head[0]), rec); err != nil {
			return loss, err
		}
	}
}
