package e2e

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// changingLabels are the labels without fixed values: no process knows the values of all
// its tenants and peers at its start.
func changingLabels() []string { return []string{"tenant", "peer"} }

// absentAtStart are the counters of rules and panels that no process of the site has at its
// start, and why.
func absentAtStart() map[string]string {
	return map[string]string{
		"hindsight_receive_stored_total":                    "of a tenant",
		"hindsight_receive_rejected_total":                  "of a tenant; its alert waits for rejections that go on for 15 minutes",
		"hindsight_receive_renamed_labels_total":            "of a tenant",
		"hindsight_receive_member_discovery_failures_total": "needs --receive.members, which a process of causes has",
	}
}

// counters are the series of the counters of all processes.
type counters map[string]labels.Labels

// readFamilies reads the metrics of a process.
func readFamilies(t *testing.T, base string) map[string]*dto.MetricFamily {
	t.Helper()
	resp, err := http.Get(base + "/metrics")
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err)
	return families
}

// readCounters returns the counters of this program whose labels have fixed values.
func (s mixinSite) readCounters() counters {
	out := counters{}
	for _, name := range harness.All() {
		role, _, _ := strings.Cut(name, "-")
		if role == "node" || role == "s3" || role == "prometheus" || !s.Proc(name).Running() {
			continue
		}
		s.addCounters(out, name, s.URL(name))
	}
	return out
}

func (s mixinSite) addCounters(out counters, process, base string) {
	for metric, f := range readFamilies(s.t, base) {
		if f.GetType() != dto.MetricType_COUNTER || !documented.MatchString(metric) {
			continue
		}
		for _, m := range f.Metric {
			b := labels.NewScratchBuilder(len(m.Label) + 1)
			b.Add("__name__", metric)
			for _, l := range m.Label {
				b.Add(l.GetName(), l.GetValue())
			}
			b.Sort()
			l := b.Labels()
			out[process+" "+l.String()] = l
		}
	}
}

// requireInitial fails for a series that appeared with its first event: increase() of it is
// 0, so no alert saw that event.
func (s mixinSite) requireInitial(before, after counters) {
	for key, l := range after {
		changing := slices.ContainsFunc(changingLabels(), l.Has)
		if _, was := before[key]; was || changing || !strings.HasPrefix(l.Get("__name__"), "hindsight_") {
			continue
		}
		s.t.Errorf("the process does not have this series from its start: %s", key)
	}
}

// requireInitialForRules fails for a counter of a rule or panel which no process has from its
// start with each value that the expression lists.
func (s mixinSite) requireInitialForRules(start counters) {
	all, absent := slices.Collect(maps.Values(start)), absentAtStart()
	for place, sel := range s.selectors() {
		if !strings.HasSuffix(sel.Name, "_total") || !documented.MatchString(sel.Name) {
			continue
		}
		if _, skip := absent[sel.Name]; skip {
			continue
		}
		for _, ms := range alternatives(sel) {
			exists := slices.ContainsFunc(all, func(l labels.Labels) bool {
				return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
			})
			require.True(s.t, exists, "%s: no process has a series with %v from its start", place, ms)
		}
	}
}

// alternatives returns the matchers of a selector for each combination of the values that it
// lists as a|b, without those of labels that Prometheus adds.
func alternatives(sel *parser.VectorSelector) [][]*labels.Matcher {
	list := regexp.MustCompile(`^\w+(\|\w+)+$`)
	out := [][]*labels.Matcher{nil}
	for _, m := range sel.LabelMatchers {
		if m.Name == "job" || m.Name == "instance" {
			continue
		}
		one := []*labels.Matcher{m}
		if m.Type == labels.MatchRegexp && list.MatchString(m.Value) {
			one = nil
			for _, v := range strings.Split(m.Value, "|") {
				one = append(one, labels.MustNewMatcher(labels.MatchEqual, m.Name, v))
			}
		}
		var next [][]*labels.Matcher
		for _, ms := range out {
			for _, m := range one {
				next = append(next, append(slices.Clone(ms), m))
			}
		}
		out = next
	}
	return out
}

// selectors are those of all alerts, recording rules and panels, by file and text.
func (s mixinSite) selectors() map[string]*parser.VectorSelector {
	files, err := filepath.Glob(filepath.Join(root(s.t), "mixin/dashboards/*.json"))
	require.NoError(s.t, err)
	// Of JSON and YAML, the decoder of YAML reads both.
	files = append(files, filepath.Join(root(s.t), "mixin/alerts.yaml"), filepath.Join(root(s.t), "mixin/rules.yaml"))
	out := map[string]*parser.VectorSelector{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(s.t, err)
		type expr struct {
			Expr string `yaml:"expr"`
		}
		var f struct {
			Groups []struct {
				Rules []expr `yaml:"rules"`
			} `yaml:"groups"`
			Panels []struct {
				Targets []expr `yaml:"targets"`
			} `yaml:"panels"`
		}
		require.NoError(s.t, yaml.Unmarshal(content, &f))
		var all []expr
		for _, g := range f.Groups {
			all = append(all, g.Rules...)
		}
		for _, p := range f.Panels {
			all = append(all, p.Targets...)
		}
		require.NotEmpty(s.t, all, file)
		for _, one := range all {
			e, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(one.Expr, "$__rate_interval", "1m"))
			require.NoError(s.t, err, one.Expr)
			parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
				if sel, ok := node.(*parser.VectorSelector); ok {
					out[fmt.Sprintf("%s: %s", filepath.Base(file), sel)] = sel
				}
				return nil
			})
		}
	}
	return out
}
