package e2e

import (
	"bytes"
	"flag"
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

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

var updateMetrics = flag.Bool("update", false, "add the metrics that were seen to docs/metrics.md")

// documented are the metrics that docs/metrics.md lists. The others are Prometheus's and
// those of its client library.
var documented = regexp.MustCompile(`^(hindsight|http|grpc|reloader)_`)

// pageRow is the row of a metric in docs/metrics.md.
var pageRow = regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\| .* \\|$")

// metricPages are the rows of docs/metrics.md by role and metric.
type metricPages map[string]map[string]string

// readMetricPages reads the rows of docs/metrics.md.
func readMetricPages(t *testing.T) metricPages {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root(t), "docs/metrics.md"))
	require.NoError(t, err)
	out := metricPages{}
	for _, section := range strings.Split(string(content), "\n## ")[1:] {
		role, rows, _ := strings.Cut(section, "\n")
		out[role] = map[string]string{}
		for _, m := range pageRow.FindAllStringSubmatch(rows, -1) {
			out[role][m[1]] = m[0]
		}
	}
	return out
}

// write writes docs/metrics.md; the text above the first section stays.
func (p metricPages) write(t *testing.T) {
	path := filepath.Join(root(t), "docs/metrics.md")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	head, _, _ := strings.Cut(string(content), "\n## ")
	var b strings.Builder
	b.WriteString(strings.TrimRight(head, "\n") + "\n")
	for _, role := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "\n## %s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", role)
		for _, name := range slices.Sorted(maps.Keys(p[role])) {
			b.WriteString(p[role][name] + "\n")
		}
	}
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
}

// seeMetrics checks the metrics of all processes of hindsight that run, and adds them
// to seen.
func (s mixinSite) seeMetrics(seen metricPages) {
	t := s.t
	for _, name := range harness.All() {
		role, _, _ := strings.Cut(name, "-")
		if role == "node" || role == "s3" || role == "prometheus" || !s.Proc(name).Running() {
			continue
		}
		resp, err := http.Get(s.URL(name) + "/metrics")
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		lint(t, name, text)
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		require.NoError(t, err)
		if seen[role] == nil {
			seen[role] = map[string]string{}
		}
		for metric, f := range families {
			if !documented.MatchString(metric) {
				continue
			}
			labels := map[string]bool{}
			for _, m := range f.Metric {
				for _, l := range m.Label {
					labels[l.GetName()] = true
				}
			}
			list := strings.Join(slices.Sorted(maps.Keys(labels)), ", ")
			seen[role][metric] = fmt.Sprintf("| `%s` | %s | %s | %s |", metric, strings.ToLower(f.GetType().String()), list, strings.ReplaceAll(f.GetHelp(), "|", `\|`))
		}
	}
}

// lint applies the checks of promtool check metrics to the metrics of this program.
func lint(t *testing.T, name string, text []byte) {
	t.Helper()
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	require.NoError(t, err)
	for _, p := range problems {
		if documented.MatchString(p.Metric) {
			t.Errorf("%s: %s: %s", name, p.Metric, p.Text)
		}
	}
}

// requireDocumented compares the metrics that were seen with docs/metrics.md, which may
// have more: a metric of an event is absent until the event happens.
func (s mixinSite) requireDocumented(seen metricPages) {
	pages := readMetricPages(s.t)
	for role, rows := range seen {
		for metric, row := range rows {
			if *updateMetrics {
				if pages[role] == nil {
					pages[role] = map[string]string{}
				}
				pages[role][metric] = row
				continue
			}
			require.Equal(s.t, row, pages[role][metric], "docs/metrics.md is stale: go test ./test/e2e -run TestMixin -update")
		}
	}
	if *updateMetrics {
		pages.write(s.t)
	}
}
