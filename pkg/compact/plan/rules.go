package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// RetentionRule is the retention of some series. The first rule that matches a series
// decides; series that none matches have Policy.Retention.
type RetentionRule struct {
	// Name identifies the rule in messages.
	Name string
	// Matchers see the labels of a series with the external ones, which override its
	// own.
	Matchers []*labels.Matcher
	// Retention by resolution, 0 keeps for ever; a resolution that is missing has
	// that of the policy.
	Retention map[int64]time.Duration
}

// class is the series of a block to which one rule may apply.
type class struct {
	rule *RetentionRule // nil for series that no rule matches
	// rest are the matchers that the external labels do not decide.
	rest []*labels.Matcher
}

// name is that of the rule, for messages.
func (c *class) name() string {
	if c.rule == nil {
		return "default"
	}
	return c.rule.Name
}

// classes returns the rules that may apply to series with the external labels, in their
// order. The last one applies to all series that are left.
func (p *Policy) classes(ext labels.Labels) []class {
	var out []class
	for i := range p.Rules {
		c := class{rule: &p.Rules[i]}
		matches := true
		for _, m := range c.rule.Matchers {
			if !ext.Has(m.Name) {
				c.rest = append(c.rest, m)
			} else if !m.Matches(ext.Get(m.Name)) {
				matches = false
				break
			}
		}
		if !matches {
			continue
		}
		out = append(out, c)
		if len(c.rest) == 0 {
			return out
		}
	}
	return append(out, class{})
}

func (p *Policy) keep(c class, resolution int64) time.Duration {
	if c.rule != nil {
		if d, ok := c.rule.Retention[resolution]; ok {
			return d
		}
	}
	return p.Retention[resolution]
}

// longest is how long any series of a block is kept in a resolution, 0 for ever.
func (p *Policy) longest(b *block.Meta, resolution int64) time.Duration {
	if len(p.Rules) == 0 {
		return p.Retention[resolution]
	}
	var most time.Duration
	for _, c := range p.classes(b.ExternalLabels()) {
		d := p.keep(c, resolution)
		if d == 0 {
			return 0
		}
		most = max(most, d)
	}
	return most
}

// ruleOf names the rule that decides about all series of a block, for messages.
func (p *Policy) ruleOf(b *block.Meta) string {
	if len(p.Rules) == 0 {
		return ""
	}
	cs := p.classes(b.ExternalLabels())
	switch {
	case len(cs) > 1:
		return fmt.Sprintf(", the longest of %d rules", len(cs))
	case cs[0].rule == nil:
		return ""
	}
	return fmt.Sprintf(" of rule %q", cs[0].rule.Name)
}

// past says whether data that ends at maxTime is older than a retention.
func past(retention time.Duration, maxTime int64, now time.Time) bool {
	return retention > 0 && now.UnixMilli()-retention.Milliseconds() > maxTime
}

// ExpiredSeries are the series of one block that are out of retention while others are
// not.
type ExpiredSeries struct {
	classes []class
	// expired says which of the classes are out of retention.
	expired []bool
}

// Matchers are those of each expired rule, without those on external labels. A series
// that they match may belong to an earlier rule: Rule decides.
func (e *ExpiredSeries) Matchers() (out [][]*labels.Matcher) {
	for i, c := range e.classes {
		if e.expired[i] {
			out = append(out, c.rest)
		}
	}
	return out
}

// Rules are the names of the expired rules, for messages; they also identify the set.
func (e *ExpiredSeries) Rules() string {
	var names []string
	for i, c := range e.classes {
		if e.expired[i] {
			names = append(names, c.name())
		}
	}
	return strings.Join(names, ", ")
}

// Expired says whether a series with these own labels is out of retention.
func (e *ExpiredSeries) Expired(lset labels.Labels) bool {
	_, expired := e.Decides(lset)
	return expired
}

// Decides returns the name of the rule that decides about a series with these own
// labels, as in Rules, and whether the series is out of its retention.
func (e *ExpiredSeries) Decides(lset labels.Labels) (rule string, expired bool) {
	for i, c := range e.classes {
		matches := true
		for _, m := range c.rest {
			if !m.Matches(lset.Get(m.Name)) {
				matches = false
				break
			}
		}
		if matches {
			return c.name(), e.expired[i]
		}
	}
	return "", false
}

// SeriesOutOfRetention returns the blocks that are kept, but hold series that a rule
// does not keep. A rule never removes series from a block while coarser data that it
// promises does not exist.
func SeriesOutOfRetention(v View, p Policy, now time.Time) map[ulid.ULID]*ExpiredSeries {
	if len(p.Rules) == 0 {
		return nil
	}
	m := newMaker(v, p, now)
	live := m.live()
	m.collectShards(live)
	live = remove(live, m.garbage(live))
	m.coverage(live)
	out := map[ulid.ULID]*ExpiredSeries{}
	for _, b := range live {
		if why, _ := m.invalid(b); why != "" || p.expired(b, b.Resolution(), now) {
			continue
		}
		e := &ExpiredSeries{classes: p.classes(b.ExternalLabels())}
		e.expired = make([]bool, len(e.classes))
		some := false
		for i, c := range e.classes {
			e.expired[i] = past(p.keep(c, b.Resolution()), b.MaxTime, now) && !m.promises(c, b)
			some = some || e.expired[i]
		}
		if some {
			out[b.ULID] = e
		}
	}
	return out
}

// promises says whether series of a class are kept in a coarser resolution in which the
// data of the block does not exist.
func (m *maker) promises(c class, b *block.Meta) bool {
	if !m.policy.Downsampling || m.view.NoDownsample[b.ULID] != nil {
		return false
	}
	for r, ok := coarser(b.Resolution()); ok; r, ok = coarser(r) {
		if !past(m.policy.keep(c, r), b.MaxTime, m.now) && !m.isCovered(b, r) {
			return true
		}
	}
	return false
}

// rewrites plans the jobs that remove series from blocks. The windows of these blocks
// wait for the results.
func (m *maker) rewrites(ready []*block.Meta) {
	for _, b := range ready {
		why, ok := m.view.Rewrites[b.ULID]
		if !ok || m.unavailable(b) {
			continue
		}
		m.add(Job{
			Kind: Rewrite, Group: groupOf(b, m.policy.ReplicaLabels), Resolution: b.Resolution(), Reason: why,
		}, b)
	}
}

// validateRules refuses rules that could not be told apart in messages.
func validateRules(rules []RetentionRule) error {
	names := map[string]bool{}
	for _, r := range rules {
		if r.Name == "" || names[r.Name] {
			return fmt.Errorf("retention rule %q: each rule needs a name of its own", r.Name)
		}
		names[r.Name] = true
	}
	return nil
}
