package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// state of a sample in the ledger.
type state uint8

const (
	unsent state = iota
	sent         // it may be stored, or not
	acked        // it must be stored
	doomed       // a request to delete it was sent: it may be stored, or not
	erased       // that request was accepted: it must go
)

// place is a sample: the series by its position in the stream, and the index.
type place struct{ series, index int }

// ledger remembers which samples of a stream were sent and acknowledged.
type ledger struct {
	*stream
	// steps are sent every pause. A stream of the present has one each second.
	steps   int
	pause   time.Duration
	present bool

	mu    sync.Mutex
	state [][]state // by series, by index
	acks  int
	// next is the first step that was not sent yet.
	next int
}

func newLedger(s *stream) *ledger {
	return &ledger{stream: s, steps: 2, pause: 250 * time.Millisecond, state: make([][]state, len(s.series))}
}

// mark records that samples were sent or acknowledged.
func (l *ledger) mark(at []place, to state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range at {
		for len(l.state[p.series]) <= p.index {
			l.state[p.series] = append(l.state[p.series], unsent)
		}
		if was := &l.state[p.series][p.index]; *was < to {
			*was = to
			if to == acked {
				l.acks++
			}
		}
	}
}

// count is the number of acknowledged samples.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks
}

// head is the first step that was not acknowledged yet, which is the time of the stream.
func (l *ledger) head() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// advance says that all steps before n are acknowledged.
func (l *ledger) advance(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = n
}

// window is the state of the samples with from < t <= to at one moment.
type window struct {
	from, to int64
	first    int
	state    [][]state
}

// snapshot copies the state of a window.
func (l *ledger) snapshot(from, to int64) window {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := window{from: from, to: to, first: max(0, int((from-l.base)/l.step)+1), state: make([][]state, len(l.state))}
	if from < l.base {
		w.first = 0
	}
	end := max(w.first, int((to-l.base)/l.step)+1)
	for i, all := range l.state {
		w.state[i] = slices.Clone(all[min(w.first, len(all)):min(end, len(all))])
	}
	return w
}

// was is the state of a sample now.
func (l *ledger) was(p place) state {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.index >= len(l.state[p.series]) {
		return unsent
	}
	return l.state[p.series][p.index]
}

// verdict is the comparison of an answer with the ledger.
type verdict struct {
	samples int      // in the answer, all right
	got     [][]bool // those of the window
	missing int      // acknowledged, but not in the answer
	erased  int      // in the answer, though they were deleted
	// example is one that is missing, leftover one that was deleted.
	example, leftover string
}

// compare checks the answer to a query for all samples of a window, a snapshot of
// which was taken before the query. An error is a sample that is wrong, twice there, or
// was never written.
func (l *ledger) compare(w window, answer []harness.Series) (verdict, error) {
	var v verdict
	got := make([][]bool, len(w.state))
	for i := range got {
		got[i] = make([]bool, len(w.state[i]))
	}
	for _, s := range answer {
		which, err := l.find(func(name string) string { return s.Labels[name] })
		if err != nil {
			return v, err
		}
		for _, sample := range s.Samples {
			i, err := l.sample(which, s.Labels["life"], sample)
			if err != nil {
				return v, fmt.Errorf("%s: %w", s.Key(), err)
			}
			v.samples++
			at := i - w.first
			switch {
			case at < 0:
				return v, fmt.Errorf("%s: a sample at %s, before the window that was asked for", s.Key(), ms(l.time(i)))
			case at >= len(got[which]):
				continue // written after the snapshot
			case got[which][at]:
				return v, fmt.Errorf("%s: two samples at %s", s.Key(), ms(l.time(i)))
			}
			got[which][at] = true
			if w.state[which][at] == erased {
				v.erased++
				v.leftover = fmt.Sprintf("%s at %s", s.Key(), ms(l.time(i)))
			}
		}
	}
	v.got = got
	for which, states := range w.state {
		for at, st := range states {
			// It may have been deleted since the snapshot.
			if st == acked && !got[which][at] && l.was(place{which, w.first + at}) == acked {
				v.missing++
				if v.example == "" {
					i := w.first + at
					v.example = fmt.Sprintf("%v at %s (index %d), expected %s", l.labels(l.series[which], i), ms(l.time(i)), i, l.expected(which, i))
				}
			}
		}
	}
	return v, nil
}

// expected is a sample as text.
func (l *ledger) expected(which, i int) string {
	s := l.series[which]
	if s.isHistogram() {
		return s.floatHistogram(i).String()
	}
	return strconv.FormatFloat(s.value(i), 'f', -1, 64)
}

// sample checks one sample of an answer and returns its index.
func (l *ledger) sample(which int, life string, got harness.Sample) (int, error) {
	i, err := l.index(int64(math.Round(got.T * 1000)))
	if err != nil {
		return 0, err
	}
	s := l.series[which]
	if s.kind == short && life != strconv.Itoa(i/lifeSteps) {
		return 0, fmt.Errorf("a sample at %s, which is not in its life", ms(l.time(i)))
	}
	if l.was(place{which, i}) == unsent {
		return 0, fmt.Errorf("a sample at %s that was never sent: %s", ms(l.time(i)), got.V)
	}
	if s.isHistogram() {
		err = sameHistogram(s.floatHistogram(i), got.V)
	} else if v, err2 := strconv.ParseFloat(got.V, 64); err2 != nil || v != s.value(i) {
		err = fmt.Errorf("expected %v, found %s", s.value(i), got.V)
	}
	if err != nil {
		return 0, fmt.Errorf("the sample at %s (index %d): %w", ms(l.time(i)), i, err)
	}
	return i, nil
}

// sameHistogram compares a histogram with the JSON of an answer.
func sameHistogram(want *histogram.FloatHistogram, text string) error {
	var got struct {
		Count, Sum string
		Buckets    [][4]json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return fmt.Errorf("expected a histogram, found %.100s: %w", text, err)
	}
	var counts, found []string
	for it := want.AllBucketIterator(); it.Next(); {
		if b := it.At(); b.Count != 0 {
			counts = append(counts, strconv.FormatFloat(b.Count, 'f', -1, 64))
		}
	}
	for _, b := range got.Buckets {
		c, err := strconv.Unquote(string(b[3]))
		if err != nil {
			return fmt.Errorf("decode the buckets of %.200s: %w", text, err)
		}
		found = append(found, c)
	}
	format := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	if got.Count != format(want.Count) || got.Sum != format(want.Sum) || !slices.Equal(counts, found) {
		return fmt.Errorf("expected %s, found %.300s", want, text)
	}
	return nil
}
