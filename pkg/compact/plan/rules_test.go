package plan

import (
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

const ruleDay = 24 * time.Hour

func rulesView(t *testing.T, text string) View {
	t.Helper()
	spec, err := blocktest.Parse(text)
	require.NoError(t, err)
	v := View{Metas: map[ulid.ULID]*block.Meta{}}
	for _, b := range spec.Blocks {
		if len(b.Meta.Compaction.Sources) == 0 {
			b.Meta.Compaction.Sources = []ulid.ULID{b.Meta.ULID}
		}
		b.Meta.Stats.NumSamples = 1
		v.Metas[b.Meta.ULID] = &b.Meta
	}
	return v
}

func is(name, value string) []*labels.Matcher {
	return []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, name, value)}
}

func raw(d time.Duration) map[int64]time.Duration { return map[int64]time.Duration{0: d} }

// kinds are the jobs of a plan by the name of their first block.
func kinds(p Plan, names ...string) map[string]Kind {
	out := map[string]Kind{}
	for _, j := range p.Jobs {
		for _, n := range names {
			if blocktest.ID(n) == j.Blocks[0] {
				out[n] = j.Kind
			}
		}
	}
	return out
}

func TestRules_FirstMatchDecidesAboutWholeBlocks(t *testing.T) {
	v := rulesView(t, `
meta a range=0s..2d labels={tenant_id="a"}
meta b range=0s..2d labels={tenant_id="b"}
meta c range=0s..2d labels={tenant_id="c"}
`)
	p := Policy{Ranges: Ranges(), Retention: raw(30 * ruleDay), Rules: []RetentionRule{
		{Name: "legal", Matchers: append(is("tenant_id", "a"), is("__name__", "audit")...), Retention: raw(0)},
		{Name: "short", Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "tenant_id", "a|b")}, Retention: raw(5 * ruleDay)},
		{Name: "never reached", Matchers: is("tenant_id", "b"), Retention: raw(0)},
	}}
	at := time.UnixMilli(0).Add(10 * ruleDay)
	got := Make(v, p, at)
	require.Equal(t, map[string]Kind{"b": MarkDeletion}, kinds(got, "a", "b", "c"), "a may hold audit, c has the default")
	require.Contains(t, got.Jobs[0].Reason, `of 5d of rule "short"`)
	require.Equal(t, map[string]Kind{"b": MarkDeletion, "c": MarkDeletion}, kinds(Make(v, p, at.Add(30*ruleDay)), "a", "b", "c"))

	e := SeriesOutOfRetention(v, p, at)
	require.Len(t, e, 1)
	some := e[blocktest.ID("a")]
	require.Equal(t, "short", some.Rules())
	require.True(t, some.Expired(labels.FromStrings("__name__", "up")))
	require.False(t, some.Expired(labels.FromStrings("__name__", "audit")))
	require.Empty(t, SeriesOutOfRetention(v, p, time.UnixMilli(0).Add(6*ruleDay)))
}

// TestRules_KeepSeriesOfPromisedCoarserData checks that a rule removes no raw series
// before the 5m data exists that it, or the default, keeps.
func TestRules_KeepSeriesOfPromisedCoarserData(t *testing.T) {
	const both = `
meta a range=0s..2d labels={cluster="eu"}
meta b range=0s..2d labels={cluster="eu"} resolution=5m sources=a
`
	at := time.UnixMilli(0).Add(10 * ruleDay)
	debug := RetentionRule{Name: "debug", Matchers: is("__name__", "debug"), Retention: raw(ruleDay)}
	p := Policy{Ranges: Ranges(), Downsampling: true, Rules: []RetentionRule{debug}}
	only := rulesView(t, `meta a range=0s..2d labels={cluster="eu"}`)
	require.Empty(t, SeriesOutOfRetention(only, p, at), "5m data of the rule is promised")
	// 1h data is still promised, and can be made of the 5m data only.
	with := rulesView(t, both)
	require.Empty(t, SeriesOutOfRetention(with, p, at), "1h data is promised, too")
	p.Rules[0].Retention[block.Resolution1h] = ruleDay
	require.Len(t, SeriesOutOfRetention(with, p, at), 1)
	p.Rules[0].Retention[block.Resolution5m] = ruleDay
	require.Len(t, SeriesOutOfRetention(only, p, at), 1, "the rule promises nothing")
	p.Downsampling = false
	p.Rules[0].Retention = raw(ruleDay)
	require.Len(t, SeriesOutOfRetention(only, p, at), 1)
}

func TestRewrites_MakeWindowsWait(t *testing.T) {
	v := rulesView(t, `
meta a range=0s..2h labels={cluster="eu"} source=compactor
meta b range=2h..4h labels={cluster="eu"} source=compactor
meta c range=4h..6h labels={cluster="eu"} source=compactor
meta d range=6h..8h labels={cluster="eu"} source=compactor
meta e range=8h..10h labels={cluster="eu"} source=compactor
`)
	at := time.UnixMilli(0).Add(11 * time.Hour)
	p := Policy{Ranges: Ranges()}
	require.Equal(t, Merge, kinds(Make(v, p, at), "a")["a"])
	v.Rewrites = map[ulid.ULID]string{blocktest.ID("b"): "it has deleted series"}
	got := Make(v, p, at)
	require.Equal(t, map[string]Kind{"b": Rewrite}, kinds(got, "a", "b", "c", "d", "e"))
	v.Quarantined = map[ulid.ULID]string{blocktest.ID("b"): "damaged"}
	require.NotContains(t, kinds(Make(v, p, at), "b"), "b")
}

// TestGarbage_RewrittenBlockReplacesItsSource checks the state that a compactor leaves
// which is killed before it marks the source, and a source that is uploaded again.
func TestGarbage_RewrittenBlockReplacesItsSource(t *testing.T) {
	v := rulesView(t, `
meta a range=0s..2h labels={cluster="eu"} source=compactor
meta b range=0s..2h labels={cluster="eu"} sources=a
`)
	v.Metas[blocktest.ID("b")].Thanos.Rewrites = []byte(`[{}]`)
	got := Make(v, Policy{Ranges: Ranges()}, time.UnixMilli(0).Add(ruleDay))
	require.Equal(t, map[string]Kind{"a": MarkDeletion}, kinds(got, "a", "b"))
	v.Metas[blocktest.ID("a")].Thanos.Rewrites = []byte(`[{},{}]`)
	got = Make(v, Policy{Ranges: Ranges()}, time.UnixMilli(0).Add(ruleDay))
	require.Equal(t, map[string]Kind{"b": MarkDeletion}, kinds(got, "a", "b"))
}
