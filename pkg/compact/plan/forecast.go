package plan

import (
	"math"
	"time"
)

// Speed is how fast jobs of one kind were: the samples of their inputs, and the time
// that they took, one after the other.
type Speed struct {
	Samples float64
	Time    time.Duration
	// Concurrency is the number of jobs of the kind that run at the same time.
	Concurrency int
}

// PerSecond is the number of samples per second with all jobs at work; 0 is unknown.
func (s Speed) PerSecond() float64 {
	if s.Time <= 0 {
		return 0
	}
	return s.Samples / s.Time.Seconds() * float64(max(s.Concurrency, 1))
}

// Verdict says whether a compactor keeps up.
type Verdict string

// The verdicts.
const (
	// KeepsUp: new data needs less time than there is.
	KeepsUp Verdict = "yes"
	// FallsBehind: new data needs more time than there is, so the backlog grows.
	FallsBehind Verdict = "no"
	// Unknown: no job of a kind that new data needs has ended yet.
	Unknown Verdict = "unknown"
)

// Forecast is when the backlog will be worked off.
type Forecast struct {
	// Load is the share of the time that new data needs, above 1 the compactor falls
	// behind. NaN is unknown.
	Load float64
	// ETA is the time in seconds until the backlog is worked off while new data
	// arrives: +Inf is never, NaN unknown.
	ETA     float64
	Verdict Verdict
}

// Outlook is what Predict calculates with.
type Outlook struct {
	// Merge and Downsample are the samples of the backlog.
	Merge, Downsample uint64
	// Inflow is the number of new raw samples per second.
	Inflow float64
	// MergeSpeed and DownsampleSpeed are those of jobs that have ended.
	MergeSpeed, DownsampleSpeed Speed
}

// Predict estimates the time for a backlog. It assumes that merging and downsampling
// follow each other, so a forecast of a compactor that does both at a time is somewhat
// late.
func Predict(o Outlook, p Policy) Forecast {
	merges, downsamplings := p.passes()
	merge, m := cost(o.Merge, o.Inflow*merges, o.MergeSpeed)
	down, d := cost(o.Downsample, o.Inflow*downsamplings, o.DownsampleSpeed)
	f := Forecast{Load: m + d, Verdict: Unknown}
	switch {
	case f.Load < 1:
		f.Verdict = KeepsUp
	case f.Load >= 1:
		f.Verdict = FallsBehind
	}
	switch work := merge + down; {
	case work == 0:
		f.ETA = 0
	case f.Verdict == FallsBehind:
		f.ETA = math.Inf(1)
	default:
		f.ETA = work / (1 - f.Load)
	}
	return f
}

// passes is how often each new sample is merged and downsampled: once for each range
// above that of fresh blocks, once where replicas are merged first, and once into 5m.
// That into 1h reads few samples.
func (p *Policy) passes() (merges, downsamplings float64) {
	merges = float64(len(p.Ranges) - 1)
	if len(p.ReplicaLabels) > 0 {
		merges++
	}
	if p.Downsampling {
		downsamplings = 1
	}
	return merges, downsamplings
}

// cost returns the seconds that samples need, and the seconds that each second of new
// ones needs; NaN where the speed is unknown.
func cost(samples uint64, perSecond float64, s Speed) (seconds, load float64) {
	speed := s.PerSecond()
	if speed > 0 {
		return float64(samples) / speed, perSecond / speed
	}
	if samples > 0 {
		seconds = math.NaN()
	}
	if perSecond > 0 {
		load = math.NaN()
	}
	return seconds, load
}
