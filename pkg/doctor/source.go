package doctor

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/claim"
)

// source is all that has one external label set.
type source struct {
	labels labels.Labels
	// blocks are raw, in the order of their start.
	blocks []*block.Meta
	claims []claim.Entry
	// first and last bound the shipped data, in milliseconds; first is above last when
	// there is none.
	first, last int64
}

// name is the subject of findings.
func (s *source) name() string { return s.labels.String() }

// shipped says whether a producer has shipped blocks with the labels.
func (s *source) shipped() bool { return s.first <= s.last }

// age is the time since the newest data.
func (s *source) age(now time.Time) time.Duration { return now.Sub(time.UnixMilli(s.last)) }

// heartbeat returns the time of a heartbeat on the clock of the bucket, if it is known.
func heartbeat(c claim.Entry) time.Time {
	if c.Modified.IsZero() {
		return c.Heartbeat
	}
	return c.Modified
}

// missedBeats is the number of heartbeats after which a claim is stale.
const missedBeats = 5

// live returns the claims whose sources run.
func (s *source) live(now time.Time) []claim.Entry {
	var out []claim.Entry
	for _, c := range s.claims {
		interval := time.Duration(min(max(c.IntervalSeconds, 60), 3600)) * time.Second
		if !c.Stopped && now.Sub(heartbeat(c)) <= missedBeats*interval {
			out = append(out, c)
		}
	}
	return out
}

// produced says whether the block comes from a Prometheus, a ruler or a receiver, and not
// from the compactor.
func produced(m *block.Meta) bool {
	return m.Thanos.Source == block.SourceSidecar || m.Thanos.Source == block.SourceReceive || m.Thanos.Source == block.SourceRuler
}

// sources groups blocks and claims by their labels, in the order of the labels. Labels
// without a replica label that only blocks of the compactor have are those of merged
// replicas; no data was shipped with them.
func sources(in Input, replicaLabels []string) []*source {
	by := map[string]*source{}
	of := func(ls labels.Labels) *source {
		s := by[ls.String()]
		if s == nil {
			s = &source{labels: ls, first: 1, last: 0}
			by[ls.String()] = s
		}
		return s
	}
	for _, m := range in.Blocks {
		if len(m.Thanos.Labels) == 0 || m.Resolution() != block.ResolutionRaw {
			continue
		}
		s := of(m.ExternalLabels())
		s.blocks = append(s.blocks, m)
	}
	for _, c := range in.Claims {
		s := of(c.LabelSet())
		s.claims = append(s.claims, c)
	}
	for _, s := range by {
		merged := !slices.ContainsFunc(s.blocks, produced) && !slices.ContainsFunc(replicaLabels, s.labels.Has)
		if len(s.blocks) > 0 && !merged {
			s.first, s.last = s.blocks[0].MinTime, s.blocks[0].MaxTime
			for _, m := range s.blocks {
				s.first, s.last = min(s.first, m.MinTime), max(s.last, m.MaxTime)
			}
		}
		slices.SortFunc(s.blocks, func(a, b *block.Meta) int {
			return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), a.ULID.Compare(b.ULID))
		})
		slices.SortFunc(s.claims, func(a, b claim.Entry) int { return strings.Compare(a.Instance, b.Instance) })
	}
	var out []*source
	for _, key := range slices.Sorted(maps.Keys(by)) {
		out = append(out, by[key])
	}
	return out
}

// difference returns the names of the labels in which two sets differ.
func difference(a, b labels.Labels) (names []string) {
	a.Range(func(l labels.Label) {
		if b.Get(l.Name) != l.Value {
			names = append(names, l.Name)
		}
	})
	b.Range(func(l labels.Label) {
		if !a.Has(l.Name) {
			names = append(names, l.Name)
		}
	})
	slices.Sort(names)
	return names
}

// stopped says that the source of a claim ended in order.
func stopped(c claim.Entry) bool { return c.Stopped }
