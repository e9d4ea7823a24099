package sidecar

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Bounds of the requests to Prometheus for answers that are kept.
const (
	// answerTTL is how long an answer is returned without asking again.
	answerTTL = 5 * time.Second
	// answerRetry is how long the last answer is returned without asking again after
	// Prometheus did not answer.
	answerRetry = 2 * time.Second
	// answerPatience is how long callers wait for Prometheus when there is an older
	// answer.
	answerPatience = 5 * time.Second
	// answerTimeout bounds one request.
	answerTimeout = 30 * time.Second
	// maxAnswerRequests bounds the requests that run at a time.
	maxAnswerRequests = 4
	// maxAnswers bounds the number of kept answers.
	maxAnswers = 200
)

// question identifies a request to Prometheus whose answer is kept.
type question struct {
	api string // such as "rules"
	// subject and span are the parameters. While Prometheus does not answer, an answer
	// of another span of the subject is better than none, and so is one of the empty
	// subject, which has all subjects.
	subject, span string
}

// lastKnown keeps the last answers of Prometheus. Callers with the same question at the
// same time share one request, and an answer is used again for a few seconds. While
// Prometheus does not answer, callers get the last answer, marked as such. It may be
// used concurrently.
type lastKnown struct {
	maxBytes int64
	metrics  *answerMetrics
	slots    *semaphore.Weighted
	running  sync.WaitGroup

	mu      sync.Mutex
	kept    map[question]*keptAnswer
	flights map[question]*flight
	bytes   int64
}

// keptAnswer is the last answer to a question.
type keptAnswer struct {
	value any // a prom.Answer, which is not changed
	bytes int64
	// at is when it was asked for.
	at   time.Time
	used time.Time
	// err is why the last request failed, at the time failed; nil after an answer.
	err    error
	failed time.Time
}

// flight is a request that runs.
type flight struct {
	started time.Time
	done    chan struct{}
	cancel  context.CancelFunc
	// waiters are the callers that wait. The request is cancelled when none is left,
	// unless one has left to return an older answer.
	waiters  int
	detached bool

	value any
	err   error
}

func newLastKnown(maxBytes int64, reg prometheus.Registerer) *lastKnown {
	return &lastKnown{
		maxBytes: maxBytes, metrics: newAnswerMetrics(reg), slots: semaphore.NewWeighted(maxAnswerRequests),
		kept: map[question]*keptAnswer{}, flights: map[question]*flight{},
	}
}

// close cancels the running requests and waits for them. No call may follow.
func (l *lastKnown) close() {
	l.mu.Lock()
	for _, f := range l.flights {
		f.cancel()
	}
	l.mu.Unlock()
	l.running.Wait()
}

// known is an answer that ask returns.
type known[T any] struct {
	prom.Answer[T]
	// at is when Prometheus was asked for it.
	at time.Time
	// down is why Prometheus could not be asked now; nil for a current answer.
	down error
}

// ask returns the answer to q: a kept one that is not older than answerTTL, one that
// fetch returns now, or the last one when Prometheus does not answer. The data is
// shared and must not be changed.
func ask[T any](ctx context.Context, l *lastKnown, q question, fetch func(context.Context) (prom.Answer[T], error)) (known[T], error) {
	v, at, down, err := l.ask(ctx, q, func(ctx context.Context) (any, int64, error) {
		a, err := fetch(ctx)
		return a, a.Bytes, err
	})
	if err != nil {
		return known[T]{}, err
	}
	a, ok := v.(prom.Answer[T])
	if !ok {
		return known[T]{}, fmt.Errorf("answer of %s is a %T", q.api, v)
	}
	return known[T]{Answer: a, at: at, down: down}, nil
}

type fetchFunc func(ctx context.Context) (value any, bytes int64, err error)

// ask is the function ask without types.
func (l *lastKnown) ask(ctx context.Context, q question, fetch fetchFunc) (value any, at time.Time, down, err error) {
	l.mu.Lock()
	now := time.Now()
	if k := l.kept[q]; k != nil && k.err == nil && now.Sub(k.at) < answerTTL {
		defer l.mu.Unlock()
		k.used = now
		l.metrics.answers.WithLabelValues(q.api, fromCache).Inc()
		return k.value, k.at, nil, nil
	}
	old := l.find(q)
	if old != nil && old.err != nil && now.Sub(old.failed) < answerRetry {
		defer l.mu.Unlock()
		return l.last(q, old, old.err)
	}
	f := l.flights[q]
	if f == nil {
		f = l.start(ctx, q, fetch)
	} else {
		l.metrics.answers.WithLabelValues(q.api, fromShared).Inc()
	}
	f.waiters++
	l.mu.Unlock()

	var late <-chan time.Time
	if old != nil {
		t := time.NewTimer(time.Until(f.started.Add(answerPatience)))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-f.done:
	case <-late:
		err = fmt.Errorf("no answer for %s", answerPatience)
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f.waiters--
	switch {
	case err == nil && f.err == nil:
		return f.value, f.started, nil, nil
	case err == nil:
		if old = l.find(q); old != nil && isDown(f.err) {
			return l.last(q, old, f.err)
		}
		l.metrics.answers.WithLabelValues(q.api, fromNothing).Inc()
		return nil, time.Time{}, nil, f.err
	case ctx.Err() == nil:
		f.detached = true
		return l.last(q, old, err)
	}
	if f.waiters == 0 && !f.detached {
		f.cancel()
		l.remove(q, f) // so that no caller joins it
	}
	return nil, time.Time{}, nil, err
}

// last returns an old answer. The caller holds the lock.
func (l *lastKnown) last(q question, k *keptAnswer, why error) (any, time.Time, error, error) {
	k.used = time.Now()
	l.metrics.answers.WithLabelValues(q.api, fromLastKnown).Inc()
	return k.value, k.at, why, nil
}

// find returns the kept answer to q, or else the newest one that may hold it, or nil. A
// newer answer with all subjects is better than an old one to q. The caller holds the
// lock.
func (l *lastKnown) find(q question) *keptAnswer {
	best := l.kept[q]
	exact := best != nil
	for other, k := range l.kept {
		same := !exact && other.subject == q.subject
		whole := other.subject == "" && q.subject != ""
		if other.api == q.api && (same || whole) && (best == nil || k.at.After(best.at)) {
			best = k
		}
	}
	return best
}

// start begins a request, which the caller may leave. The caller holds the lock.
func (l *lastKnown) start(ctx context.Context, q question, fetch fetchFunc) *flight {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	f := &flight{started: time.Now(), done: make(chan struct{}), cancel: cancel}
	l.flights[q] = f
	l.running.Add(1)
	go func() {
		defer l.running.Done()
		defer cancel()
		value, bytes, err := l.fetch(ctx, q, fetch)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.remove(q, f)
		f.value, f.err = value, err
		switch {
		case err == nil:
			l.keep(q, &keptAnswer{value: value, bytes: bytes, at: f.started, used: time.Now()})
		case isDown(err):
			if k := l.find(q); k != nil {
				k.err, k.failed = err, time.Now()
			}
		}
		close(f.done)
	}()
	return f
}

// remove makes the next caller begin another request. The caller holds the lock.
func (l *lastKnown) remove(q question, f *flight) {
	if l.flights[q] == f {
		delete(l.flights, q)
	}
}

func (l *lastKnown) fetch(ctx context.Context, q question, fetch fetchFunc) (any, int64, error) {
	if err := l.slots.Acquire(ctx, 1); err != nil {
		return nil, 0, fmt.Errorf("wait for other requests to Prometheus: %w", err)
	}
	defer l.slots.Release(1)
	l.metrics.answers.WithLabelValues(q.api, fromPrometheus).Inc()
	return fetch(ctx)
}

// keep replaces the answer to q and forgets those that were used least recently
// beyond the bounds. An answer that is larger than the bound is not kept. The caller
// holds the lock.
func (l *lastKnown) keep(q question, k *keptAnswer) {
	l.forget(q)
	if k.bytes <= l.maxBytes {
		l.kept[q] = k
		l.bytes += k.bytes
	}
	for l.bytes > l.maxBytes || len(l.kept) > maxAnswers {
		var oldest question
		var at *keptAnswer
		for other, k := range l.kept {
			if at == nil || k.used.Before(at.used) {
				oldest, at = other, k
			}
		}
		l.forget(oldest)
	}
	l.metrics.bytes.Set(float64(l.bytes))
}

func (l *lastKnown) forget(q question) {
	if k := l.kept[q]; k != nil {
		l.bytes -= k.bytes
		delete(l.kept, q)
	}
}

// isDown reports whether err is of a server that does not answer, rather than of the
// request.
func isDown(err error) bool {
	var pe *prom.Error
	if errors.As(err, &pe) {
		return pe.Status/100 == 5
	}
	return !errors.Is(err, context.Canceled)
}

// refresh asks for what queriers ask for at times, every interval, so that there is a
// last known state when Prometheus stops. The second time is sooner: a server that has
// just started has not discovered its targets. It returns when ctx is cancelled.
func (s *promStore) refresh(ctx context.Context, interval time.Duration) {
	for wait := min(interval, time.Minute); ; wait = interval {
		// Failures are counted, and logged where Prometheus is checked.
		_, _, _ = s.Rules(ctx, &storeapi.RulesRequest{})
		_, _, _ = s.Targets(ctx, &storeapi.TargetsRequest{State: storeapi.TargetActive})
		_, _, _ = s.TSDBStatus(ctx, &storeapi.TSDBStatusRequest{Limit: minStatusLimit})
		_, _, _ = s.Metadata(ctx, "", -1)
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// marked returns the warnings of an answer. One of the last known state has a warning
// that says so, even when the server had none.
func marked[T any](s *promStore, k known[T]) storeapi.Warnings {
	ws := s.warnings(k.Warnings)
	if k.down == nil {
		return ws
	}
	return append(ws, storeapi.Warning{
		Source: s.source.client.URL(),
		Text: fmt.Sprintf("last known state of %s, Prometheus does not answer: %s",
			k.at.UTC().Format(time.RFC3339), k.down),
	})
}
