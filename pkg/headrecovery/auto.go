package headrecovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// claimFor is how long a claim keeps other processes from a head. Two that recover the
// same head make the same blocks, so that a claim saves work and nothing depends on it.
const claimFor = time.Hour

// endedFactor multiplies the age of a head whose source lives on with a newer one: if
// its Prometheus was only restarted, it cuts the samples into a block itself within
// three hours.
const endedFactor = 4

// AutoConfig configures Auto.
type AutoConfig struct {
	Config
	// After is the age at which a head is recovered, on the clock of the bucket.
	After time.Duration
	// Owner names this process to others.
	Owner string
}

// Auto recovers heads by itself, one after the other.
type Auto struct {
	cfg      AutoConfig
	readOnly bool // the bucket was found to be read-only, and that is logged
	waiting  atomic.Int64
	heads    *prometheus.CounterVec
	samples  prometheus.Counter
	last     prometheus.Gauge
}

// NewAuto returns an Auto whose metrics are registered at reg, which may be nil.
func NewAuto(cfg AutoConfig, reg prometheus.Registerer) *Auto {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	f := promauto.With(reg)
	a := &Auto{cfg: cfg}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "hindsight_store_heads_waiting",
		Help: "Head logs in the bucket whose Prometheus is gone and which are not recovered yet, damaged ones included.",
	}, func() float64 { return float64(a.waiting.Load()) })
	a.heads = f.NewCounterVec(prometheus.CounterOpts{
		Name: "hindsight_store_heads_recovered_total",
		Help: "Attempts to recover a head log, by result: recovered, in_blocks, grown, damaged, failed.",
	}, []string{"result"})
	for _, r := range []string{"recovered", "in_blocks", "grown", "damaged", "failed"} {
		a.heads.WithLabelValues(r)
	}
	a.samples = f.NewCounter(prometheus.CounterOpts{
		Name: "hindsight_store_heads_recovered_samples_total",
		Help: "Samples of head logs that were written into blocks.",
	})
	a.last = f.NewGauge(prometheus.GaugeOpts{
		Name: "hindsight_store_heads_last_recovery_timestamp_seconds",
		Help: "When a head log was last recovered.",
	})
	return a
}

// Pass recovers the heads that are old enough. metas are the blocks of the bucket. It
// reports whether it wrote blocks. It must not be called concurrently.
func (a *Auto) Pass(ctx context.Context, metas map[ulid.ULID]*block.Meta) (wrote bool, err error) {
	heads, err := list(ctx, a.cfg.Bucket, headlog.Dir)
	if err != nil {
		return false, err
	}
	if len(a.due(heads, time.Now())) == 0 {
		a.waiting.Store(0)
		return false, nil
	}
	// The clock of this machine may be wrong, so that one of the bucket decides.
	now, err := Now(ctx, a.cfg.Bucket)
	if err != nil {
		if !a.readOnly && ctx.Err() == nil {
			a.readOnly = true
			a.cfg.Logger.Warn("head logs not recovered: bucket is not writable", "err", err)
		}
		return false, nil
	}
	a.readOnly = false
	due := a.due(heads, now)
	waiting := int64(len(due))
	defer func() { a.waiting.Store(waiting) }()
	a.waiting.Store(waiting)
	for _, h := range due {
		done, err := a.one(ctx, h, metas, now)
		if err != nil {
			return wrote, err
		}
		wrote = wrote || done && h.State == Lost
		if done {
			waiting--
			a.waiting.Store(waiting)
		}
	}
	return wrote, nil
}

// due returns the heads that are old enough at a time.
func (a *Auto) due(heads []*Head, now time.Time) []*Head {
	newest := map[string]time.Time{}
	for _, h := range heads {
		if h.Modified.After(newest[h.Source]) {
			newest[h.Source] = h.Modified
		}
	}
	var out []*Head
	for _, h := range heads {
		after := a.cfg.After
		if now.Sub(newest[h.Source]) < a.cfg.After {
			after *= endedFactor
		}
		if h.Age(now) >= after {
			out = append(out, h)
		}
	}
	return out
}

// one recovers one head, and reports whether it is done with. An error that only concerns
// the head is logged.
func (a *Auto) one(ctx context.Context, h *Head, metas map[ulid.ULID]*block.Meta, now time.Time) (done bool, err error) {
	if err := h.load(ctx, a.cfg.Bucket); err != nil {
		return false, err
	}
	if h.State = h.state(metas, now, a.cfg.After); h.State == Damaged || h.State == Unlabelled || h.State == Growing {
		return false, nil
	}
	mine, err := claim(ctx, a.cfg.Bucket, h, a.cfg.Owner, now)
	if err != nil || !mine {
		return false, err
	}
	start := time.Now()
	log := a.cfg.Logger.With("source", h.Source, "generation", h.ID, "labels", h.Labels.String())
	res, err := Recover(ctx, a.cfg.Config, h, metas)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, bucket.ErrNotFound):
		log.Info("head log removed by another process during its recovery", "err", err)
		return true, nil
	case err != nil:
		a.heads.WithLabelValues("failed").Inc()
		log.Warn("head log not recovered", "err", err)
		return false, nil
	}
	samples := uint64(0)
	for _, m := range res.Blocks {
		samples += m.Stats.NumSamples
	}
	a.samples.Add(float64(samples))
	a.last.SetToCurrentTime()
	result := "recovered"
	switch {
	case res.Loss.Places > 0:
		result = "damaged"
		log.Warn("head log recovered in part", "places", res.Loss.Places, "bytes", res.Loss.Bytes, "first", res.Loss.First)
	case res.Grown:
		result = "grown"
	case h.State != Lost:
		result = "in_blocks"
	}
	a.heads.WithLabelValues(result).Inc()
	log.Info("head log recovered", "result", result, "blocks", len(res.Blocks), "samples", samples,
		"unknown_samples", res.UnknownSamples, "removed", res.Removed, "duration", time.Since(start))
	return true, nil
}

// claimed is the content of claim.json.
type claimed struct {
	Owner string `json:"owner"`
}

// claim takes the head for this process, unless another one has it.
func claim(ctx context.Context, bkt bucket.Bucket, h *Head, owner string, now time.Time) (bool, error) {
	name := h.Dir() + "/" + claimName
	o, err := bkt.Stat(ctx, name)
	if err != nil && !errors.Is(err, bucket.ErrNotFound) {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	if err == nil && now.Sub(o.LastModified) < claimFor {
		if is, err := claimOwner(ctx, bkt, name); err != nil || is != owner {
			return false, err
		}
	}
	if err := putJSON(ctx, bkt, name, claimed{Owner: owner}); err != nil {
		return false, err
	}
	is, err := claimOwner(ctx, bkt, name)
	return is == owner, err
}

// claimOwner returns the owner of a claim, "" without one.
func claimOwner(ctx context.Context, bkt bucket.Reader, name string) (string, error) {
	b, err := bucket.ReadAll(ctx, bkt, name, maxJSON)
	if errors.Is(err, bucket.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var c claimed
	if parsed := json.Unmarshal(b, &c) == nil; !parsed {
		return "", nil // of another version, or written in part
	}
	return c.Owner, nil
}
