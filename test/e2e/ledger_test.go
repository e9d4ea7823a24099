package e2e

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// ledger writes samples and records the acknowledged ones. All series have the given
// metric name and differ in the label "series".
type ledger struct {
	metric string
	series int
	// retry sends a batch again, as a Prometheus does, when there was no answer
	// or one of 5xx; only other answers are failures then.
	retry bool

	mu      sync.Mutex
	sent    map[int64]bool               // times of batches
	acked   map[string]map[int64]float64 // by series, by time in ms
	failed  []string                     // errors that a client saw from a live server
	retried []string                     // errors after which it sent again
}

func newLedger(metric string, series int) *ledger {
	return &ledger{metric: metric, series: series, sent: map[int64]bool{}, acked: map[string]map[int64]float64{}}
}

// batch is one sample of each series at time t.
func (l *ledger) batch(t int64) []prompb.TimeSeries {
	l.mu.Lock()
	l.sent[t] = true
	l.mu.Unlock()
	out := make([]prompb.TimeSeries, 0, l.series)
	for i := range l.series {
		v := valueOf(t, i)
		out = append(out, harness.TimeSeries([]prompb.Sample{{Timestamp: t, Value: v}},
			"__name__", l.metric, "cluster", "ledger", "series", strconv.Itoa(i)))
	}
	return out
}

// valueOf is the value of a series at a time.
func valueOf(t int64, series int) float64 { return float64(t%100000) + float64(series)/10 }

// ack records that the server acknowledged the batch.
func (l *ledger) ack(batch []prompb.TimeSeries) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ts := range batch {
		name := ts.Labels[len(ts.Labels)-1].Value
		if l.acked[name] == nil {
			l.acked[name] = map[int64]float64{}
		}
		for _, s := range ts.Samples {
			l.acked[name][s.Timestamp] = s.Value
		}
	}
}

// run writes one batch each interval to the URLs in turn until stop is closed.
// An answer that is no success counts as a failure; a failed connection does not, as a
// load balancer would choose another node.
func (l *ledger) run(stop <-chan struct{}, interval time.Duration, urls func() []string) {
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := int64(0)
	for n := 0; ; n++ {
		last = max(time.Now().UnixMilli(), last+1)
		l.send(client, l.batch(last), func() string {
			live := urls()
			n++
			return live[n%len(live)]
		})
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}

// send writes one batch, with retry as often as needed for two minutes.
func (l *ledger) send(client *http.Client, batch []prompb.TimeSeries, next func() string) {
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		code, err := harness.Writer{URL: next(), Client: client}.Write(batch)
		if err == nil {
			l.ack(batch)
			return
		}
		again := l.retry && (code == 0 || code/100 == 5 || code == http.StatusTooManyRequests)
		if again && time.Now().Before(end) {
			l.note(&l.retried, err)
			continue
		}
		if code != 0 || l.retry {
			l.note(&l.failed, err)
		}
		return
	}
}

func (l *ledger) note(list *[]string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*list = append(*list, err.Error())
}

// count is the number of acknowledged samples.
func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.acked {
		n += len(s)
	}
	return n
}

// reach waits until more than n samples are acknowledged in all: a slow host needs longer for
// as many.
func (l *ledger) reach(t *testing.T, n int) {
	t.Helper()
	eventually(t, 4*time.Minute, func() error {
		if got := l.count(); got <= n {
			return fmt.Errorf("%d samples are acknowledged, not more than %d; last errors: %s", got, n, l.lastErrors())
		}
		return nil
	})
}

// check reads every sample of the metric and compares them with the acknowledged
// ones. Samples that were written but not acknowledged may or may not be
// there; samples that were never written must not.
func (l *ledger) check(a harness.API) error {
	ans, err := a.Instant(l.metric+"[1h]", time.Now().Add(time.Minute))
	if err != nil {
		return err
	}
	if len(ans.Warnings) > 0 {
		return fmt.Errorf("the answer has warnings: %q", ans.Warnings)
	}
	got := map[string]map[int64]float64{}
	for _, s := range ans.Series {
		name := s.Labels["series"]
		if got[name] != nil {
			return fmt.Errorf("series %s is there twice: %v", name, s.Labels)
		}
		got[name] = map[int64]float64{}
		for _, sample := range s.Samples {
			v, err := strconv.ParseFloat(sample.V, 64)
			if err != nil {
				return err
			}
			got[name][int64(math.Round(sample.T*1000))] = v
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := 0
	var example string
	for name, samples := range l.acked {
		for t, v := range samples {
			if w, ok := got[name][t]; !ok || w != v {
				lost++
				example = fmt.Sprintf("series %s at %d: wrote %v, read %v (present: %v)", name, t, v, w, ok)
			}
		}
	}
	for name, samples := range got {
		i, err := strconv.Atoi(name)
		for t, v := range samples {
			if err != nil || i >= l.series || !l.sent[t] || v != valueOf(t, i) {
				return fmt.Errorf("series %s has %v at %d, which was never written", name, v, t)
			}
		}
	}
	if lost > 0 {
		return fmt.Errorf("%d acknowledged samples are lost or wrong, such as %s", lost, example)
	}
	return nil
}
