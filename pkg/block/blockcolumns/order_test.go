package blockcolumns

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

// seriesOf returns the series of a text: each line has labels with values, such as a=1,2 b=x,
// and stands for the series of all their combinations.
func seriesOf(text string) (out []labels.Labels) {
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		sets := [][]labels.Label{{{Name: model.MetricNameLabel, Value: "metric"}}}
		for _, word := range strings.Fields(line) {
			name, values, _ := strings.Cut(word, "=")
			var longer [][]labels.Label
			for _, v := range strings.Split(values, ",") {
				for _, set := range sets {
					longer = append(longer, append(slices.Clone(set), labels.Label{Name: name, Value: v}))
				}
			}
			sets = longer
		}
		for _, set := range sets {
			out = append(out, labels.New(set...))
		}
	}
	return out
}

func TestArrange_PutsTheSeriesOfOneInstanceTogether(t *testing.T) {
	for _, tc := range []struct{ name, series, want string }{
		{"one series", `job=node instance=a:9100`,
			`constant instance=a:9100 job=node, order`},
		{"node_cpu_seconds_total: numbers last", `job=node instance=a:9100,b:9100,c:9100 cpu=0,1 mode=idle,system,user`,
			`constant job=node, order instance mode cpu`},
		{"node_filesystem_size_bytes: few values first", `
			job=node instance=a:9100,b:9100 fstype=ext4 device=/dev/sda1,/dev/sda2 mountpoint=/,/home,/var
			job=node instance=a:9100,b:9100 fstype=tmpfs device=tmpfs mountpoint=/run`,
			`constant job=node, order instance fstype device mountpoint`},
		{"container_memory_working_set_bytes: pods before nodes", `
			job=kubelet namespace=shop instance=node1 pod=cart-1,cart-2,cart-3 container=app,proxy
			job=kubelet namespace=shop instance=node2 pod=pay-1 container=app,proxy
			job=kubelet namespace=kube-system instance=node1 pod=dns-1 container=dns`,
			`constant job=kubelet, order namespace pod instance container`},
		{"each instance is a pod, and one was replaced", `
			job=node namespace=monitoring instance=node1 pod=exporter-1,exporter-3 mode=idle,user
			job=node namespace=monitoring instance=node2 pod=exporter-2 mode=idle,user`,
			`constant job=node namespace=monitoring, order instance pod mode`},
		{"container_memory_working_set_bytes without the node", `
			namespace=shop pod=cart-1,cart-2,pay-1 container=app,proxy image=app:1
			namespace=kube-system pod=dns-1 container=dns image=dns:7`,
			`constant, order namespace pod image container`},
		{"classic histogram: le after handlers", `job=api instance=a:80,b:80 handler=/buy,/cart,/list le=0.1,+Inf`,
			`constant job=api, order instance handler le`},
		{"kube_pod_status_phase", `
			job=kube-state-metrics instance=ksm:8080 namespace=shop pod=cart-1,cart-2,pay-1 phase=Failed,Pending,Running
			job=kube-state-metrics instance=ksm:8080 namespace=kube-system pod=dns-1 phase=Failed,Pending,Running`,
			`constant instance=ksm:8080 job=kube-state-metrics, order namespace pod phase`},
		{"up of several jobs", `
			job=api instance=a:80,b:80
			job=node instance=a:9100,b:9100,c:9100`,
			`constant, order job instance`},
		{"a label that some lack is not constant", `
			instance=a,b device=eth0
			instance=c`,
			`constant, order instance device`},
		{"equally many values: by name", `x=1a,2a y=1a,2a z=1a,2a`, `constant, order x y z`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			series := seriesOf(tc.series)
			for range 3 { // the result does not depend on the order of the series
				rand.New(rand.NewPCG(1, 2)).Shuffle(len(series), func(i, j int) { series[i], series[j] = series[j], series[i] })
				constant, order := arrange(series)
				got := "constant"
				for _, l := range constant {
					got += fmt.Sprintf(" %s=%s", l.Name, l.Value)
				}
				require.Equal(t, tc.want, strings.TrimSuffix(got+", order "+strings.Join(order, " "), " "))
			}
		})
	}
}

// alphabet has values that are beginnings of others, and bytes at both ends of their order.
func alphabet() []string {
	return []string{"", "a", "aa", "ab", "b", "\x01", "a\x01", "\x7f", "\x80", "\xff", "a\xff", "\xff\xff", "é"}
}

func TestSeparator_IsTheShortestBetween(t *testing.T) {
	var keys []string
	for _, a := range alphabet() {
		for _, b := range alphabet() {
			keys = append(keys, a+end+b+end)
		}
	}
	slices.Sort(keys)
	require.Len(t, slices.Compact(slices.Clone(keys)), len(keys))
	for i, a := range keys {
		for _, b := range keys[i+1:] {
			s := separator(a, b)
			require.True(t, strings.HasPrefix(b, s))
			require.Greater(t, s, a)
			require.LessOrEqual(t, s[:len(s)-1], a, "a shorter one of %q and %q", a, b)
		}
	}
}

// segmented is a metric of series with labels a, b and c, or fewer, and segments of few series.
func segmented(rng *rand.Rand) (m *Metric, values [][]string, segments []int) {
	m = &Metric{Order: []string{"a", "b", "c"}[:1+rng.IntN(3)]}
	byKey := map[string][]string{}
	for range 1 + rng.IntN(60) {
		key, vs := "", []string(nil)
		for range m.Order {
			v := alphabet()[rng.IntN(len(alphabet()))]
			key, vs = key+v+end, append(vs, v)
		}
		byKey[key] = vs
	}
	keys := make([]string, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for i, key := range keys {
		if i == 0 || rng.IntN(3) == 0 {
			s := Segment{}
			if i > 0 {
				s.from = separator(keys[i-1], key)
			}
			m.Segments = append(m.Segments, s)
		}
		m.Segments[len(m.Segments)-1].Series++
		values, segments = append(values, byKey[key]), append(segments, len(m.Segments)-1)
	}
	return m, values, segments
}

// anyMatcher is a matcher on one of the labels.
func anyMatcher(rng *rand.Rand, names []string) *labels.Matcher {
	name := names[rng.IntN(len(names))]
	v := func() string { return append(alphabet(), "none")[rng.IntN(len(alphabet())+1)] }
	typ := []labels.MatchType{labels.MatchEqual, labels.MatchEqual, labels.MatchNotEqual, labels.MatchRegexp, labels.MatchRegexp, labels.MatchNotRegexp}[rng.IntN(6)]
	value := v()
	if typ == labels.MatchRegexp || typ == labels.MatchNotRegexp {
		value = []string{value, value + "|" + v(), value + "|" + v() + "|" + v(), ".*", value + ".+", "(?i)A", "a[ab]?", ""}[rng.IntN(8)]
	}
	m, err := labels.NewMatcher(typ, name, value)
	if err != nil {
		return labels.MustNewMatcher(labels.MatchEqual, name, v())
	}
	return m
}

func TestCandidates_MissNoSegment(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	all, chosen, matching := 0, 0, 0
	for range 20_000 {
		m, values, segments := segmented(rng)
		ms := make([]*labels.Matcher, rng.IntN(4))
		for i := range ms {
			ms[i] = anyMatcher(rng, m.Order)
		}
		candidates := m.Candidates(ms)
		require.LessOrEqual(t, len(candidates), len(m.Segments))
		all, chosen = all+len(m.Segments), chosen+len(candidates)
		for i, vs := range values {
			if !slices.ContainsFunc(ms, func(matcher *labels.Matcher) bool { return !matcher.Matches(vs[slices.Index(m.Order, matcher.Name)]) }) {
				matching++
				require.Contains(t, candidates, m.Segments[segments[i]], "%q for %s", vs, ms)
			}
		}
		if len(ms) == 0 {
			require.Equal(t, m.Segments, candidates)
		}
	}
	require.Less(t, chosen, all*4/5, "many selectors need few segments")
	require.Greater(t, matching, 100_000)
}

func TestCandidates_OfOneSeriesAreOneSegment(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		m, values, segments := segmented(rng)
		i := rng.IntN(len(values))
		var ms []*labels.Matcher
		for k, name := range m.Order {
			ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, name, values[i][k]))
		}
		require.Equal(t, []Segment{m.Segments[segments[i]]}, m.Candidates(ms))
		ms[0] = labels.MustNewMatcher(labels.MatchEqual, m.Order[0], "none")
		require.LessOrEqual(t, len(m.Candidates(ms)), 1)
	}
}

func TestCandidates_LookForFewBeginnings(t *testing.T) {
	m := &Metric{Order: []string{"a", "b"}, Segments: []Segment{{}, {from: "m"}, {from: "x\x00m"}}}
	many := make([]string, 200)
	for i := range many {
		many[i] = fmt.Sprint("a", i)
	}
	in := func(name string, values ...string) *labels.Matcher {
		return labels.MustNewMatcher(labels.MatchRegexp, name, strings.Join(values, "|"))
	}
	require.Len(t, m.Candidates([]*labels.Matcher{in("a", "a", "b")}), 1)
	require.Len(t, m.Candidates([]*labels.Matcher{in("a", many...)}), 3, "too many values to look for: all segments")
	require.Len(t, m.Candidates([]*labels.Matcher{in("a", "a", "x"), in("b", many...)}), 3)
	require.Len(t, m.Candidates([]*labels.Matcher{in("a", "a", "x"), in("b", "c")}), 2)
	require.Len(t, m.Candidates([]*labels.Matcher{in("b", "c")}), 3, "the first label is not restricted")
	require.Len(t, m.Candidates([]*labels.Matcher{in("a", "a", "x"), labels.MustNewMatcher(labels.MatchEqual, "a", "x")}), 2)
}

// A selector of an instance alone leaves out segments of each job.
func TestCandidates_LookBehindEqualValues(t *testing.T) {
	m := &Metric{Order: []string{"job", "instance", "mode"}, Segments: []Segment{
		{}, {from: "api\x00d"}, {from: "api\x00m"}, {from: "api\x00p\x00user"}, {from: "api\x00p\x00z"}, {from: "node\x00c"}, {from: "node\x00k"}, {from: "node\x00x"},
	}}
	at := func(name, value string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, name, value) }
	numbers := func(ms ...*labels.Matcher) (out []int) {
		for _, s := range m.Candidates(ms) {
			out = append(out, slices.Index(m.Segments, s))
		}
		return out
	}
	require.Equal(t, []int{0, 1, 4, 5, 7}, numbers(at("instance", "e")), "the first, the last, that with both jobs, and one of each job")
	require.Equal(t, []int{0, 2, 3, 4, 6, 7}, numbers(at("instance", "p")))
	require.Equal(t, []int{0, 2, 4, 6, 7}, numbers(at("instance", "p"), at("mode", "idle")), "no mode before user in segment 3")
	require.Equal(t, []int{6}, numbers(at("job", "node"), at("instance", "p")), "segment 4 ends before node, c")
	require.Equal(t, []int{4}, numbers(at("job", "node"), at("instance", "a")))
	require.Equal(t, []int{0, 1, 2, 4, 5, 6, 7}, numbers(at("mode", "idle")), "all series of segment 3 are of p, with modes from user on")
}

func TestMetric_ArrangeRefusesEqualSeries(t *testing.T) {
	series := seriesOf("instance=a,b cpu=0")
	sources, ok := new(Metric).arrange([]storage.SeriesRef{1, 2}, series)
	require.True(t, ok)
	require.Equal(t, []source{{1, "a\x00"}, {2, "b\x00"}}, sources)
	_, ok = new(Metric).arrange([]storage.SeriesRef{1, 2, 3}, append(series, series[1]))
	require.False(t, ok)
	_, ok = new(Metric).arrange([]storage.SeriesRef{1, 2}, []labels.Labels{series[0], series[0]})
	require.False(t, ok, "all labels are constant")
}
