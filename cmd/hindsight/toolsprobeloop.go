package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/probe"
	"github.com/hindsight-io/hindsight/pkg/probe/wire"
)

// printer gets the result of a command.
type printer = io.Writer

// pollPause is the first pause between two looks for new samples; it doubles up to
// maxPollPause.
const (
	pollPause    = 10 * time.Millisecond
	maxPollPause = time.Second
)

// prober is the component of tools probe. Run owns all but ready.
type prober struct {
	cfg    *probeConfig
	set    *probe.Set
	ledger *probe.Ledger
	writer *wire.Writer
	reader *wire.Reader
	log    *slog.Logger
	out    printer
	result *probeResult
	// rounds counts the checks of older data, and so chooses their range.
	rounds int64
	ready  atomic.Bool
}

// RegisterHTTP adds nothing to the metrics page and the probes.
func (p *prober) RegisterHTTP(*http.ServeMux) {}

// RegisterGRPC adds nothing.
func (p *prober) RegisterGRPC(grpc.ServiceRegistrar) {}

// Ready returns an error until the first write was acknowledged.
func (p *prober) Ready() error {
	if !p.ready.Load() {
		return errors.New("no write was acknowledged yet")
	}
	return nil
}

// Run writes and checks at each step until ctx is cancelled or the duration is over. Then
// it checks once more when the last samples must be readable, prints the result, and
// returns an error if there are findings. A cancelled run leaves out the last check.
func (p *prober) Run(ctx context.Context) error {
	timed := ctx
	if p.cfg.duration > 0 {
		var cancel context.CancelFunc
		timed, cancel = context.WithTimeout(ctx, p.cfg.duration)
		defer cancel()
	}
	for last := int64(-1); ; {
		step := p.set.Step(time.Now())
		if step == last {
			if !pause(timed, time.Until(time.UnixMilli(p.set.Time(step+1)))) {
				break
			}
			continue
		}
		// The round in which the duration ends is not cut off: its writes are checked.
		last = step
		p.round(ctx, step)
		if timed.Err() != nil {
			break
		}
	}
	if pause(ctx, p.cfg.visible) {
		p.check(ctx, ageRecent, p.set.Step(time.Now()))
	}
	if err := p.result.print(p.out, p.cfg.output); err != nil {
		return err
	}
	return p.result.err()
}

// pause waits and says whether ctx still holds.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}

// round writes the samples of a step, waits for them, and checks recent and older data.
func (p *prober) round(ctx context.Context, step int64) {
	p.ledger.Forget(step - int64((p.cfg.history+p.cfg.recent)/p.cfg.interval))
	acknowledged := false
	for _, protocol := range p.set.Protocols() {
		if p.write(ctx, step, protocol) {
			acknowledged = true
		}
	}
	if acknowledged {
		p.ready.Store(true)
		p.await(ctx, step, time.Now())
	}
	p.check(ctx, ageRecent, step)
	// The ages of the older ranges double, up to --history.
	recent, history := int64(p.cfg.recent/p.cfg.interval), int64(p.cfg.history/p.cfg.interval)
	if age := recent << (p.rounds % 32); age > history || age <= 0 {
		p.rounds = 0
	}
	if recent <= history {
		p.check(ctx, ageOlder, step-recent<<p.rounds)
		p.rounds++
	}
}

// write sends the samples that are due and notes whether they are acknowledged.
func (p *prober) write(ctx context.Context, step int64, protocol string) bool {
	due := p.set.Due(step, protocol)
	p.result.written(protocol, len(due))
	if err := p.writer.Write(ctx, p.set, due, protocol); err != nil {
		if ctx.Err() == nil {
			p.result.writeFailed(protocol)
			p.log.Warn("write failed", "protocol", protocol, "err", err)
		}
		return false
	}
	p.ledger.Acknowledged(due, time.Now())
	p.result.acknowledged(protocol, len(due))
	return true
}

// await asks for the samples of a step until all that were acknowledged are there, and
// measures the time since then. It gives up after --visible-within; the checks find the
// samples that are lost.
func (p *prober) await(ctx context.Context, step int64, since time.Time) {
	timed, cancel := context.WithDeadline(ctx, since.Add(p.cfg.visible))
	defer cancel()
	at := p.set.Time(step)
	for wait := pollPause; ; wait = min(2*wait, maxPollPause) {
		found, err := p.reader.Instant(timed, wire.Ask{Selector: p.set.Selector(), Until: at, Dedup: true})
		if err == nil && !p.ledger.Evaluations(probe.Question{From: step, Until: step, By: since}, found).Lacks() {
			p.result.visible(time.Since(since))
			return
		}
		if pause(timed, wait) {
			continue
		}
		if ctx.Err() == nil {
			p.log.Warn("acknowledged samples not readable in time", "after", time.Since(since), "err", err)
		}
		return
	}
}

// check reads the range that ends at a step by every path.
func (p *prober) check(ctx context.Context, age string, step int64) {
	q := probe.Question{From: step - int64(p.cfg.recent/p.cfg.interval) + 1, Until: step, By: time.Now().Add(-p.cfg.visible)}
	for _, v := range p.cfg.views() {
		if v.age != age || ctx.Err() != nil {
			continue
		}
		q.Replicas = !v.dedup
		ask := wire.Ask{Selector: p.set.Selector(), From: p.set.Time(q.From), Until: p.set.Time(q.Until), Dedup: v.dedup}
		r, err := p.read(ctx, v, q, ask)
		switch {
		case err != nil && ctx.Err() != nil:
		case err != nil:
			p.result.readFailed(v)
			p.log.Warn("query failed", "path", v.path, "dedup", v.dedup, "age", v.age, "err", err)
		default:
			for _, f := range p.result.checked(v, r) {
				p.log.Error("problem found", "problem", f.Problem, "path", v.path, "dedup", v.dedup, "age", v.age,
					"series", f.Series, "timestamp", f.Time, "details", f.Details)
			}
		}
	}
}

// read asks by one path and compares the answer.
func (p *prober) read(ctx context.Context, v probeView, q probe.Question, ask wire.Ask) (probe.Result, error) {
	switch v.path {
	case pathInstant:
		// The newest step that has to be readable.
		q.From = max(q.From, q.Until-int64((p.cfg.visible+p.cfg.interval-1)/p.cfg.interval)-1)
		q.Until = q.From
		ask.Until = p.set.Time(q.Until)
		found, err := p.reader.Instant(ctx, ask)
		return p.ledger.Evaluations(q, found), err
	case pathRange:
		found, err := p.reader.Range(ctx, ask, p.set.Time(1))
		return p.ledger.Evaluations(q, found), err
	case pathRaw:
		found, err := p.reader.Raw(ctx, ask)
		return p.ledger.Samples(q, found), err
	case pathSeries:
		found, err := p.reader.Series(ctx, ask)
		return p.ledger.Listed(q, found), err
	case pathLabels:
		names, err := p.reader.Names(ctx, ask)
		return p.ledger.Values(q, names), err
	case pathExemplars:
		found, err := p.reader.Exemplars(ctx, ask)
		return p.ledger.Exemplars(q, found), err
	default:
		// /federate has the samples of the last five minutes.
		q.From = max(q.From, q.Until-int64(4*time.Minute/p.cfg.interval))
		found, err := p.reader.Federate(ctx, ask)
		return p.ledger.Latest(q, found), err
	}
}
