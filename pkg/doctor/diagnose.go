package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Diagnose returns the findings, errors first, then by kind and subject.
func Diagnose(in Input, opts Options) []Finding {
	d := &diagnosis{in: in, opts: opts, sources: sources(in, opts.ReplicaLabels)}
	for _, s := range d.sources {
		d.equalClaims(s)
		d.overlaps(s)
		d.clocks(s)
		d.changes(s)
	}
	d.succession()
	d.silent()
	d.mismatches()
	d.blocks()
	d.heads()
	d.stores()
	d.prometheus()
	slices.SortStableFunc(d.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Subject, b.Subject))
	})
	return d.found
}

// diagnosis collects findings.
type diagnosis struct {
	in      Input
	opts    Options
	sources []*source
	found   []Finding
}

func (d *diagnosis) add(f Finding) { d.found = append(d.found, f) }

// at writes a time in milliseconds.
func at(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04") }

func short(t time.Duration) string {
	if t > 48*time.Hour {
		return fmt.Sprintf("%d days", int(t.Hours()/24))
	}
	return t.Round(time.Second).String()
}

const ownLabels = "give each Prometheus external labels of its own, such as a replica label"

// equalClaims finds several live sources with the same labels.
func (d *diagnosis) equalClaims(s *source) {
	live := s.live(d.in.Now)
	if len(live) < 2 {
		return
	}
	var where []string
	for _, c := range live {
		where = append(where, fmt.Sprintf("%s on host %q in %q", c.Instance, c.Host, c.Directory))
	}
	d.add(Finding{
		Severity: severe, Kind: "equal_labels", Subject: s.name(),
		Details: fmt.Sprintf("%d sources run with these labels: %s", len(live), strings.Join(where, "; ")),
		Advice:  ownLabels + "; their series are mixed until then",
	})
}

// overlaps finds blocks of one source that have a time in common. Two blocks that sidecars
// cut of it with different content are from two sources.
func (d *diagnosis) overlaps(s *source) {
	twins, others := overlapping(s.blocks)
	describe := func(pairs [][2]*block.Meta) string {
		first, last := pairs[0][1].MinTime, int64(0)
		for _, p := range pairs {
			first, last = min(first, p[1].MinTime), max(last, min(p[0].MaxTime, p[1].MaxTime))
		}
		return fmt.Sprintf("%d pairs of blocks from %s to %s, for example %s and %s", len(pairs), at(first), at(last), pairs[0][0].ULID, pairs[0][1].ULID)
	}
	if len(twins) > 0 {
		d.add(Finding{
			Severity: severe, Kind: "equal_labels", Subject: s.name(),
			Details: "sidecars shipped different blocks of the same time: " + describe(twins),
			Advice:  ownLabels + "; if only one source has these labels, its data was deleted or restored, and the compactor merges the blocks",
		})
	}
	if len(others) > 0 {
		d.add(Finding{
			Severity: warning, Kind: "overlapping_blocks", Subject: s.name(), Details: describe(others),
			Advice: "the compactor of Hindsight merges them; that of Thanos needs --compact.enable-vertical-compaction, or it halts",
		})
	}
}

// overlapping returns the pairs of neighbours that overlap. Blocks whose sources are all in
// another block are left out: the compactor removes them. So are blocks of out-of-order
// samples.
func overlapping(blocks []*block.Meta) (twins, others [][2]*block.Meta) {
	var before *block.Meta // the one that reaches furthest
	for _, m := range blocks {
		if m.Compaction.FromOutOfOrder() {
			continue
		}
		if before != nil && m.MinTime < before.MaxTime && !contains(before, m) && !contains(m, before) {
			cut := func(m *block.Meta) bool { return m.Thanos.Source == block.SourceSidecar && m.Compaction.Level <= 1 }
			pair := [2]*block.Meta{before, m}
			if cut(before) && cut(m) && before.Stats != m.Stats && len(m.Compaction.Parents)+len(before.Compaction.Parents) == 0 {
				twins = append(twins, pair)
			} else {
				others = append(others, pair)
			}
		}
		if before == nil || m.MaxTime > before.MaxTime {
			before = m
		}
	}
	return twins, others
}

// contains says whether a was made of all sources of b.
func contains(a, b *block.Meta) bool {
	sources := b.Compaction.Sources
	if len(sources) == 0 {
		sources = []ulid.ULID{b.ULID}
	}
	for _, src := range sources {
		if !slices.Contains(a.Compaction.Sources, src) {
			return false
		}
	}
	return true
}

// futureBlocks is how far in the future the samples of a block may be.
const futureBlocks = 10 * time.Minute

const clockAdvice = "let NTP or chrony set the clock of the host"

// clocks finds clocks of sources that differ from that of the bucket.
func (d *diagnosis) clocks(s *source) {
	for _, c := range s.live(d.in.Now) {
		if c.Modified.IsZero() {
			continue
		}
		skew := c.Heartbeat.Sub(c.Modified)
		if skew.Abs() <= d.opts.Skew {
			continue
		}
		f := Finding{Severity: warning, Kind: "clock_skew", Subject: s.name(), Advice: clockAdvice}
		if skew.Abs() > 5*time.Minute {
			f.Severity = severe
		}
		f.Details = fmt.Sprintf("the clock of host %q is %s behind that of the bucket", c.Host, short(-skew))
		if skew > 0 {
			f.Details = fmt.Sprintf("the clock of host %q is %s ahead of that of the bucket", c.Host, short(skew))
		}
		d.add(f)
	}
	if s.shipped() && s.age(d.in.Now) < -futureBlocks {
		d.add(Finding{
			Severity: severe, Kind: "future_data", Subject: s.name(),
			Details: fmt.Sprintf("its newest block ends at %s, in the future", at(s.last)), Advice: clockAdvice,
		})
	}
}

// blocks finds blocks that no source owns, or that cannot be used.
func (d *diagnosis) blocks() {
	unlabelled := []ulid.ULID{}
	for _, m := range d.in.Blocks {
		if len(m.Thanos.Labels) == 0 {
			unlabelled = append(unlabelled, m.ULID)
		}
	}
	if len(unlabelled) > 0 {
		slices.SortFunc(unlabelled, ulid.ULID.Compare)
		d.add(Finding{
			Severity: severe, Kind: "no_external_labels", Subject: unlabelled[0].String(),
			Details: fmt.Sprintf("%d blocks have no external labels; they may be from any source", len(unlabelled)),
			Advice:  "find their origin, and add labels to their meta.json or mark them for deletion",
		})
	}
	for _, id := range slices.SortedFunc(maps.Keys(d.in.Unusable), ulid.ULID.Compare) {
		d.add(Finding{
			Severity: severe, Kind: "unusable_block", Subject: id.String(),
			Details: "its meta.json cannot be used: " + d.in.Unusable[id],
			Advice:  "restore meta.json from a copy, or mark the block for deletion",
		})
	}
}

// headGone is the age of the newest piece of a log after which its source is gone.
const headGone = 15 * time.Minute

// heads finds logs whose source no longer runs.
func (d *diagnosis) heads() {
	live := map[string]bool{}
	for _, s := range d.sources {
		live[s.name()] = len(s.live(d.in.Now)) > 0
	}
	for _, h := range d.in.Heads {
		age := d.in.Now.Sub(h.Modified)
		if h.Modified.IsZero() || age < headGone || !h.Labels.IsEmpty() && live[h.Labels.String()] {
			continue
		}
		d.add(Finding{
			Severity: warning, Kind: "head_to_recover", Subject: h.Dir,
			Details: fmt.Sprintf("the log of %s was last written %s ago; its samples are in no block yet", h.Labels, short(age)),
			Advice:  "if the source does not come back, run: hindsight tools recover",
		})
	}
}

// stores finds servers that do not answer, that warn, or that announce the labels of another.
func (d *diagnosis) stores() {
	first := map[string]string{}
	for _, st := range d.in.Stores {
		if st.Err != "" {
			d.add(Finding{
				Severity: severe, Kind: "store_unreachable", Subject: st.Address, Details: st.Err,
				Advice: "start the store, or correct its address",
			})
		}
		for _, w := range st.Warnings {
			d.add(Finding{Severity: warning, Kind: "store_warning", Subject: st.Address, Details: w, Advice: "follow the warning"})
		}
		d.announced(st)
		if st.Component != "sidecar" && st.Component != "rule" {
			continue
		}
		for _, ls := range st.LabelSets {
			if other, ok := first[ls.String()]; ok && other != st.Address {
				d.add(Finding{
					Severity: severe, Kind: "equal_labels", Subject: ls.String(),
					Details: fmt.Sprintf("the stores %s and %s announce these labels", other, st.Address), Advice: ownLabels,
				})
			} else {
				first[ls.String()] = st.Address
			}
		}
	}
}

// openEnd is how far in the future the end of a store is that takes new samples.
const openEnd = 100 * 365 * 24 * time.Hour

// announced finds stores of a source that announce no labels, or samples in the future.
func (d *diagnosis) announced(st Store) {
	// A receiver without tenants has no label sets yet.
	source := st.Component == "sidecar" || st.Component == "rule" || st.Component == "receive" && len(st.LabelSets) > 0
	bare := !slices.ContainsFunc(st.LabelSets, func(ls labels.Labels) bool { return !ls.IsEmpty() })
	if source && bare && st.Err == "" {
		d.add(Finding{
			Severity: severe, Kind: "no_external_labels", Subject: st.Address,
			Details: "the store announces no external labels; its series cannot be told from those of other sources",
			Advice:  "set external labels that no other source has; a sidecar without labels ships no blocks",
		})
	}
	if end := time.UnixMilli(st.MaxTime); st.MaxTime > 0 && end.After(d.in.Now.Add(futureBlocks)) && end.Before(d.in.Now.Add(openEnd)) {
		d.add(Finding{
			Severity: severe, Kind: "future_data", Subject: st.Address,
			Details: fmt.Sprintf("its newest sample is of %s, in the future", at(st.MaxTime)), Advice: clockAdvice,
		})
	}
}

// prometheus checks a server that was asked.
func (d *diagnosis) prometheus() {
	p := d.in.Prometheus
	if p == nil {
		return
	}
	f := Finding{Severity: severe, Kind: "prometheus_unreachable", Subject: p.URL, Details: p.Err, Advice: "start Prometheus, or correct its URL"}
	switch {
	case p.Err != "":
	case p.Labels.IsEmpty():
		f = Finding{
			Severity: severe, Kind: "no_external_labels", Subject: p.URL, Details: "Prometheus has no external labels",
			Advice: "set global.external_labels in its configuration, for example cluster and replica",
		}
	case !slices.ContainsFunc(d.sources, func(s *source) bool {
		return labels.Equal(s.labels, p.Labels) && (s.shipped() || len(s.live(d.in.Now)) > 0)
	}):
		f = Finding{
			Severity: warning, Kind: "not_in_bucket", Subject: p.URL,
			Details: fmt.Sprintf("the bucket has neither blocks nor a claim of its labels %s", p.Labels),
			Advice:  "check that its sidecar uses this bucket; the first block comes after up to three hours",
		}
	default:
		return
	}
	d.add(f)
}
