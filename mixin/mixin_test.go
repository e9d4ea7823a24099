package main

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

func newParser() parser.Parser { return parser.NewParser(parser.Options{}) }

// The committed files are those of the description, and there are no others.
func TestGeneratedFiles_AreCommitted(t *testing.T) {
	files, err := generate()
	require.NoError(t, err)
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err, "run go run ./mixin")
		require.Equal(t, string(want), string(got), "%s is stale: run go run ./mixin", name)
	}
	for _, dir := range []string{"mixin/dashboards", "docs/runbooks"} {
		entries, err := os.ReadDir(filepath.Join("..", dir))
		require.NoError(t, err)
		for _, e := range entries {
			require.Contains(t, files, dir+"/"+e.Name(), "this file is not generated")
		}
	}
}

func TestRules_AreValid(t *testing.T) {
	files, err := generate()
	require.NoError(t, err)
	for _, name := range []string{"mixin/alerts.yaml", "mixin/rules.yaml"} {
		_, errs := rulefmt.Parse(files[name], false, model.UTF8Validation, newParser(), slog.New(slog.DiscardHandler))
		require.Empty(t, errs, name)
	}
	names := map[string]bool{}
	for _, g := range alertGroups() {
		for _, a := range g.alerts {
			require.False(t, names[a.name], "%s exists twice", a.name)
			names[a.name] = true
			require.Contains(t, []string{critical, warning, info}, a.severity, a.name)
			_, err := model.ParseDuration(a.wait)
			require.NoError(t, err, a.name)
			for _, text := range []string{a.summary, a.meaning, a.impact} {
				require.True(t, strings.HasSuffix(text, "."), "%s: %q is no sentence", a.name, text)
			}
			require.NotEmpty(t, a.diagnosis, a.name)
			require.NotEmpty(t, a.mitigation, a.name)
		}
	}
}

// expressions returns all expressions of dashboards, alerts and records by their place.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, d := range dashboards() {
		content, err := d.json()
		require.NoError(t, err)
		var g grafanaDashboard
		require.NoError(t, json.Unmarshal(content, &g))
		for _, p := range g.Panels {
			for _, q := range p.Targets {
				out[d.title+" / "+p.Title+" / "+q.RefID] = strings.NewReplacer("$__rate_interval", "5m").Replace(q.Expr)
			}
		}
	}
	for _, g := range alertGroups() {
		for _, a := range g.alerts {
			out[a.name] = a.expr
		}
	}
	for _, r := range records() {
		out[r.name] = r.expr
	}
	return out
}

// Every metric of every expression is one that the program or Prometheus's own
// libraries export. A counter is read through a function of ranges.
func TestExpressions_NameMetricsThatExist(t *testing.T) {
	source := sourceText(t)
	exported := regexp.MustCompile(`^(go|process|grpc|http|prometheus_tsdb)_|^up$|^hindsight_build_info$`)
	prefixes := []string{"hindsight_compact_", "hindsight_sidecar_head_"}
	known := func(name string) bool {
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			base := strings.TrimSuffix(name, suffix)
			if exported.MatchString(base) || strings.Contains(source, `"`+base+`"`) {
				return true
			}
			for _, p := range prefixes {
				if rest, ok := strings.CutPrefix(base, p); ok && strings.Contains(source, `"`+rest+`"`) {
					return true
				}
			}
		}
		return false
	}
	n := 0
	for place, text := range expressions(t) {
		e, err := newParser().ParseExpr(text)
		require.NoError(t, err, "%s: %s", place, text)
		parser.Inspect(e, func(node parser.Node, path []parser.Node) error {
			sel, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			n++
			require.True(t, known(sel.Name), "%s: no role exports %s", place, sel.Name)
			if strings.HasSuffix(sel.Name, "_total") {
				_, ranged := path[len(path)-1].(*parser.MatrixSelector)
				require.True(t, ranged, "%s: the counter %s is read as a gauge", place, sel.Name)
			}
			return nil
		})
	}
	require.Greater(t, n, 100)
}

// Log messages that a runbook tells to search for are logged.
func TestRunbooks_NameLogMessagesThatExist(t *testing.T) {
	source := sourceText(t)
	search := regexp.MustCompile("(?:Search the log|log of the querier) for `([^`]+)`")
	n := 0
	for _, g := range alertGroups() {
		for _, a := range g.alerts {
			for _, step := range a.diagnosis {
				for _, m := range search.FindAllStringSubmatch(step, -1) {
					message := regexp.MustCompile(`(?i)(Error|Warn|Info|LogAttrs|Log)\([^"\n]*"[^"\n]*` + regexp.QuoteMeta(m[1]))
					require.True(t, message.MatchString(source), "%s: no log line has %q", a.name, m[1])
					n++
				}
			}
		}
	}
	require.Greater(t, n, 10)
}

func TestDashboards_HaveDistinctPanels(t *testing.T) {
	uids := map[string]bool{}
	for _, d := range dashboards() {
		require.False(t, uids[d.uid], d.uid)
		uids[d.uid] = true
		for _, r := range d.rows {
			for _, p := range r.panels {
				require.NotEmpty(t, p.queries, "%s / %s", d.title, p.title)
				require.NotEmpty(t, p.unit, "%s / %s", d.title, p.title)
			}
		}
	}
	require.Len(t, slices.Collect(maps.Keys(uids)), 9)
}

// sourceText returns the text of the program without its tests.
func sourceText(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir("../pkg", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".pb.go") {
			return err
		}
		content, err := os.ReadFile(path)
		b.Write(content)
		return err
	})
	require.NoError(t, err)
	return b.String()
}
