package main

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// runbookURL is where the pages of alerts are read.
const runbookURL = "https://github.com/hindsight-io/hindsight/blob/main/docs/runbooks/"

// generatedNote heads the YAML files.
const generatedNote = "# Made by `go run ./mixin`; do not edit.\n"

// group is a group of alerts about one role.
type group struct {
	name   string
	alerts []alert
}

// alert describes one alert together with its runbook.
type alert struct {
	name, expr, wait, severity string
	// summary is one line; it may use the labels of the alert.
	summary string
	// The sections of the runbook. Diagnosis and mitigation are lists of steps.
	meaning, impact       string
	diagnosis, mitigation []string
}

// Severities of alerts: page a person, look at it today, look at it when there is time.
const (
	critical = "critical"
	warning  = "warning"
	info     = "info"
)

// record describes one recording rule.
type record struct{ name, expr string }

// The model of a file of rules of Prometheus.
type (
	ruleFile struct {
		Groups []ruleGroup `yaml:"groups"`
	}
	ruleGroup struct {
		Name  string `yaml:"name"`
		Rules []rule `yaml:"rules"`
	}
	rule struct {
		Record      string            `yaml:"record,omitempty"`
		Alert       string            `yaml:"alert,omitempty"`
		Expr        string            `yaml:"expr"`
		For         string            `yaml:"for,omitempty"`
		Labels      map[string]string `yaml:"labels,omitempty"`
		Annotations map[string]string `yaml:"annotations,omitempty"`
	}
)

func alertFile(groups []group) ([]byte, error) {
	var out ruleFile
	for _, g := range groups {
		rg := ruleGroup{Name: "hindsight-" + g.name}
		for _, a := range g.alerts {
			rg.Rules = append(rg.Rules, rule{
				Alert: a.name, Expr: a.expr, For: a.wait, Labels: map[string]string{"severity": a.severity},
				Annotations: map[string]string{
					"summary": a.summary, "description": a.meaning, "runbook_url": runbookURL + a.name + ".md",
				},
			})
		}
		out.Groups = append(out.Groups, rg)
	}
	return encode(out)
}

func recordFile(records []record) ([]byte, error) {
	g := ruleGroup{Name: "hindsight-records"}
	for _, r := range records {
		g.Rules = append(g.Rules, rule{Record: r.name, Expr: r.expr})
	}
	return encode(ruleFile{Groups: []ruleGroup{g}})
}

func encode(f ruleFile) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(generatedNote)
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(f); err != nil {
		return nil, fmt.Errorf("encode rules: %w", err)
	}
	return b.Bytes(), enc.Close()
}

// runbook returns the page of an alert.
func (a alert) runbook() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\nSeverity %s. The alert waits %s. This page is made by `go run ./mixin`.\n", a.name, a.severity, a.wait)
	fmt.Fprintf(&b, "\n```promql\n%s\n```\n", a.expr)
	fmt.Fprintf(&b, "\n## Meaning\n\n%s\n\n## Impact\n\n%s\n", a.meaning, a.impact)
	steps := func(title string, list []string) {
		fmt.Fprintf(&b, "\n## %s\n\n", title)
		for i, s := range list {
			fmt.Fprintf(&b, "%d. %s\n", i+1, s)
		}
	}
	steps("Diagnosis", a.diagnosis)
	steps("Mitigation", a.mitigation)
	return []byte(b.String())
}

// runbookIndex lists the alerts.
func runbookIndex(groups []group) []byte {
	var b strings.Builder
	b.WriteString("# Which alert means what?\n\nThese pages belong to the alerts of [mixin/alerts.yaml](../../mixin/alerts.yaml).\n")
	for _, g := range groups {
		fmt.Fprintf(&b, "\n## %s\n\n| alert | severity | meaning |\n|---|---|---|\n", g.name)
		for _, a := range g.alerts {
			fmt.Fprintf(&b, "| [%s](%s.md) | %s | %s |\n", a.name, a.name, a.severity, a.meaning)
		}
	}
	return []byte(b.String())
}

// alertGroups returns all alerts.
func alertGroups() []group {
	return []group{
		{"process", processAlerts()}, {"query", queryAlerts()}, {"receive", receiveAlerts()},
		{"store", storeAlerts()}, {"compact", compactAlerts()}, {"sidecar", sidecarAlerts()},
	}
}

// records returns the recording rules: rates and quantiles over long ranges that are
// expensive to ask for again and again.
func records() []record {
	return []record{
		{"job_handler:http_request_errors:ratio_rate5m", `sum by (job, handler) (rate(http_requests_total{code=~"5.."}[5m]) and on (job, instance) hindsight_build_info) / sum by (job, handler) (rate(http_requests_total[5m]) and on (job, instance) hindsight_build_info)`},
		{"job_handler:http_request_duration_seconds:p99_rate5m", `histogram_quantile(0.99, sum by (job, handler, le) (rate(http_request_duration_seconds_bucket[5m]) and on (job, instance) hindsight_build_info))`},
		{"job_operation:hindsight_objstore_operation_failures:ratio_rate5m", `sum by (job, operation) (rate(hindsight_objstore_operation_failures_total[5m])) / sum by (job, operation) (rate(hindsight_objstore_operations_total[5m]))`},
		{"job_operation:hindsight_objstore_operation_duration_seconds:p99_rate5m", `histogram_quantile(0.99, sum by (job, operation, le) (rate(hindsight_objstore_operation_duration_seconds_bucket[5m])))`},
		{"tenant:hindsight_receive_stored:rate5m", `sum by (tenant) (rate(hindsight_receive_stored_total[5m]))`},
		{"tenant:prometheus_tsdb_head_series:sum", `sum by (tenant) (prometheus_tsdb_head_series{tenant!=""})`},
	}
}
