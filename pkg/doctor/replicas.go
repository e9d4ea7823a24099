package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// changePeriod is how long changes of labels are reported, and manyChanges how many of
// them are a pattern.
const (
	changePeriod = 14 * 24 * time.Hour
	manyChanges  = 3
)

const keepLabels = "choose external labels that do not change at a restart; blocks of labels that last less than two days are not merged"

// changes finds sources whose claims list other labels before the present ones.
func (d *diagnosis) changes(s *source) {
	for _, c := range s.live(d.in.Now) {
		recent := 0
		for _, p := range c.Previous {
			if d.in.Now.Sub(p.Until) <= changePeriod {
				recent++
			}
		}
		if recent == 0 {
			continue
		}
		f := Finding{Severity: warning, Kind: "labels_changed", Subject: s.name(), Advice: "if this was not intended, restore the previous labels"}
		f.Details = fmt.Sprintf("the source had the labels %s until %s", labels.FromMap(c.Previous[0].Labels), at(c.Previous[0].Until.UnixMilli()))
		if recent >= manyChanges {
			f.Severity, f.Advice = severe, keepLabels
			f.Details = fmt.Sprintf("the labels of the source changed %d times within two weeks, last from %s", recent, labels.FromMap(c.Previous[0].Labels))
		}
		d.add(f)
	}
}

// succession finds labels whose data ends where that of others begins that differ in one
// label. Without claims, as with Thanos, this is all that a change leaves.
func (d *diagnosis) succession() {
	next := map[*source]*source{}
	before := map[*source]bool{}
	for _, a := range d.sources {
		if !a.shipped() || len(a.claims) > 0 || a.age(d.in.Now) < d.opts.Lag || a.age(d.in.Now) > changePeriod {
			continue
		}
		for _, b := range d.sources {
			gap := time.Duration(b.first-a.last) * time.Millisecond
			if b.shipped() && len(b.claims) == 0 && !before[b] && gap.Abs() <= 4*time.Hour && b.first > a.first && len(difference(a.labels, b.labels)) == 1 {
				next[a], before[b] = b, true
				break
			}
		}
	}
	for _, first := range d.sources {
		if before[first] || next[first] == nil {
			continue
		}
		changes, last := 0, first
		for next[last] != nil {
			last = next[last]
			changes++
		}
		f := Finding{
			Severity: warning, Kind: "labels_changed", Subject: last.name(),
			Details: fmt.Sprintf("its data begins where that of %s ends, %d changes in all", first.name(), changes),
			Advice:  "if this was not intended, restore the previous labels",
		}
		if changes >= manyChanges {
			f.Severity, f.Advice = severe, keepLabels
		}
		d.add(f)
	}
	d.sources = slices.DeleteFunc(d.sources, func(s *source) bool { return next[s] != nil }) // they are not silent
}

// group returns the labels of a source without replica labels.
func (d *diagnosis) group(s *source) string {
	return labels.NewBuilder(s.labels).Del(d.opts.ReplicaLabels...).Labels().String()
}

// silent finds sources that ship no more, or whose process is gone.
func (d *diagnosis) silent() {
	type state struct {
		s      *source
		silent bool
	}
	groups := map[string][]state{}
	for _, s := range d.sources {
		live, silent := len(s.live(d.in.Now)) > 0, s.age(d.in.Now) > d.opts.Lag
		if !s.shipped() {
			if len(s.claims) == 0 {
				continue // only blocks of the compactor
			}
			silent = !live
			if live && d.in.Now.Sub(s.live(d.in.Now)[0].Since) > d.opts.Lag {
				silent = true
			}
		}
		groups[d.group(s)] = append(groups[d.group(s)], state{s, silent})
	}
	for _, s := range d.sources {
		members := groups[d.group(s)]
		i := slices.IndexFunc(members, func(m state) bool { return m.s == s })
		if i < 0 || !members[i].silent || !s.shipped() && len(s.live(d.in.Now)) == 0 {
			continue
		}
		if age := s.age(d.in.Now); s.shipped() && age > d.opts.Forget {
			continue
		}
		d.add(d.silence(s, slices.ContainsFunc(members, func(m state) bool { return !m.silent })))
	}
}

// silence is the finding of a silent source. others says that another replica ships.
func (d *diagnosis) silence(s *source, others bool) Finding {
	f := Finding{Severity: severe, Kind: "stopped_shipping", Subject: s.name(), Details: "it has never shipped a block"}
	if s.shipped() {
		f.Details = fmt.Sprintf("its newest block ends at %s, %s ago", at(s.last), short(s.age(d.in.Now)))
	}
	switch live := s.live(d.in.Now); {
	case len(live) > 0:
		f.Details += fmt.Sprintf("; its sidecar on host %q runs", live[0].Host)
		f.Advice = "look at the log of the sidecar, hindsight_shipper_unshipped_since_timestamp_seconds and the disk of Prometheus"
	case others:
		f.Kind = "missing_replica"
		f.Details += "; another replica ships"
		f.Advice = "start the replica again; gaps of the other one cannot be filled meanwhile"
	default:
		f.Advice = "start the source again; if it was removed on purpose, this is reported until its data is older than --forget"
	}
	if !others && len(s.live(d.in.Now)) == 0 && slices.ContainsFunc(s.claims, stopped) {
		f.Severity = warning
		f.Details += "; it was stopped in order"
	}
	return f
}

// mismatches finds replicas that differ in more than the replica labels: one has a label
// that the other has not, or another label has the replica in its value, too.
func (d *diagnosis) mismatches() {
	current := slices.DeleteFunc(slices.Clone(d.sources), func(s *source) bool {
		return len(s.live(d.in.Now)) == 0 && (!s.shipped() || s.age(d.in.Now) > d.opts.Lag)
	})
	alone := map[string]int{}
	for _, s := range current {
		alone[d.group(s)]++
	}
	current = slices.DeleteFunc(current, func(s *source) bool { return alone[d.group(s)] > 1 })
	if len(current) > maxCompared {
		current = current[:maxCompared]
	}
	for i, a := range current {
		for _, b := range current[i+1:] {
			if label := d.mismatch(a.labels, b.labels); label != "" {
				d.add(Finding{
					Severity: warning, Kind: "replica_mismatch", Subject: a.name(),
					Details: fmt.Sprintf("it differs from %s in the label %q besides the replica label, so queries do not deduplicate them", b.name(), label),
					Advice:  "give replicas equal external labels but for the replica label, or name the label as a replica label too",
				})
			}
		}
	}
}

// maxCompared bounds the sources that are compared with each other.
const maxCompared = 2000

// mismatch returns the label in which two sources differ that look like replicas; empty if
// they do not.
func (d *diagnosis) mismatch(a, b labels.Labels) (label string) {
	var replica string
	for _, name := range difference(a, b) {
		switch {
		case slices.Contains(d.opts.ReplicaLabels, name) && replica == "" && a.Has(name) && b.Has(name):
			replica = name
		case label == "":
			label = name
		default:
			return ""
		}
	}
	if replica == "" || label == "" {
		return ""
	}
	va, vb := a.Get(label), b.Get(label)
	if va == "" || vb == "" || strings.ReplaceAll(va, a.Get(replica), b.Get(replica)) == vb {
		return label
	}
	return ""
}
