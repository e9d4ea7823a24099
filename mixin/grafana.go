package main

import (
	"bytes"
	"encoding/json"
	"strings"
)

// dashboard describes one dashboard. Expressions of its panels have two short forms:
// {sel is the selection of the processes, [rate] the range of rates.
type dashboard struct {
	uid, title, help string
	// tenant adds a variable with the tenants of receive nodes.
	tenant bool
	rows   []row
}

// row is a heading with panels below it, three beside each other.
type row struct {
	title  string
	panels []panel
}

// panel is one graph.
type panel struct {
	title, help string
	unit        unit
	queries     []query
}

// query is an expression with the legend of its series.
type query struct{ expr, legend string }

// unit is the name by which Grafana knows a unit.
type unit string

const (
	seconds unit = "s"
	bytesIn unit = "bytes"
	perSec  unit = "ops"
	bytesPS unit = "Bps"
	percent unit = "percentunit"
	count   unit = "short"
	age     unit = "dtdurations"
)

// The model of a dashboard in Grafana's JSON, as far as it is used here.
type (
	grafanaDashboard struct {
		UID           string         `json:"uid"`
		Title         string         `json:"title"`
		Description   string         `json:"description"`
		Tags          []string       `json:"tags"`
		SchemaVersion int            `json:"schemaVersion"`
		Version       int            `json:"version"`
		Editable      bool           `json:"editable"`
		Refresh       string         `json:"refresh"`
		Timezone      string         `json:"timezone"`
		Time          grafanaTime    `json:"time"`
		Templating    grafanaList    `json:"templating"`
		Links         []grafanaLink  `json:"links"`
		Panels        []grafanaPanel `json:"panels"`
	}
	grafanaTime struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	grafanaList struct {
		List []grafanaVariable `json:"list"`
	}
	grafanaLink struct {
		Title       string   `json:"title"`
		Type        string   `json:"type"`
		Tags        []string `json:"tags"`
		AsDropdown  bool     `json:"asDropdown"`
		IncludeVars bool     `json:"includeVars"`
		KeepTime    bool     `json:"keepTime"`
	}
	grafanaVariable struct {
		Name       string         `json:"name"`
		Label      string         `json:"label"`
		Type       string         `json:"type"`
		Query      string         `json:"query"`
		Datasource *grafanaSource `json:"datasource,omitempty"`
		Refresh    int            `json:"refresh"`
		Multi      bool           `json:"multi"`
		IncludeAll bool           `json:"includeAll"`
		AllValue   string         `json:"allValue,omitempty"`
		Sort       int            `json:"sort"`
	}
	grafanaSource struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	grafanaPanel struct {
		ID          int             `json:"id"`
		Type        string          `json:"type"`
		Title       string          `json:"title"`
		Description string          `json:"description,omitempty"`
		GridPos     grafanaPos      `json:"gridPos"`
		Datasource  *grafanaSource  `json:"datasource,omitempty"`
		Targets     []grafanaTarget `json:"targets,omitempty"`
		FieldConfig *grafanaFields  `json:"fieldConfig,omitempty"`
	}
	grafanaPos struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	grafanaTarget struct {
		RefID        string `json:"refId"`
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	}
	grafanaFields struct {
		Defaults  grafanaDefaults `json:"defaults"`
		Overrides []struct{}      `json:"overrides"`
	}
	grafanaDefaults struct {
		Unit string `json:"unit"`
		Min  int    `json:"min"`
	}
)

const (
	panelWidth  = 8
	panelHeight = 7
	gridWidth   = 24
)

// json returns the file that Grafana imports.
func (d dashboard) json() ([]byte, error) {
	out := grafanaDashboard{
		UID: d.uid, Title: "Hindsight / " + d.title, Description: d.help, Tags: []string{"hindsight"},
		SchemaVersion: 39, Version: 1, Editable: true, Refresh: "30s", Timezone: "browser",
		Time: grafanaTime{From: "now-1h", To: "now"}, Templating: grafanaList{List: d.variables()},
		Links: []grafanaLink{{Title: "Hindsight", Type: "dashboards", Tags: []string{"hindsight"}, AsDropdown: true, IncludeVars: true, KeepTime: true}},
	}
	id, y := 1, 0
	for _, r := range d.rows {
		out.Panels = append(out.Panels, grafanaPanel{ID: id, Type: "row", Title: r.title, GridPos: grafanaPos{H: 1, W: gridWidth, Y: y}})
		id, y = id+1, y+1
		for i, p := range r.panels {
			if i > 0 && i*panelWidth%gridWidth == 0 {
				y += panelHeight
			}
			out.Panels = append(out.Panels, p.grafana(id, grafanaPos{H: panelHeight, W: panelWidth, X: i * panelWidth % gridWidth, Y: y}))
			id++
		}
		y += panelHeight
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(out)
	return b.Bytes(), err
}

func source() *grafanaSource { return &grafanaSource{Type: "prometheus", UID: "${datasource}"} }

func (d dashboard) variables() []grafanaVariable {
	out := []grafanaVariable{
		{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus", Refresh: 1},
		{
			Name: "job", Label: "Job", Type: "query", Query: "label_values(hindsight_build_info, job)", Datasource: source(),
			Refresh: 2, Multi: true, IncludeAll: true, AllValue: ".+", Sort: 1,
		},
	}
	if d.tenant {
		out = append(out, grafanaVariable{
			Name: "tenant", Label: "Tenant", Type: "query", Query: `label_values(hindsight_receive_stored_total{job=~"$job"}, tenant)`,
			Datasource: source(), Refresh: 2, Multi: true, IncludeAll: true, AllValue: ".+", Sort: 1,
		})
	}
	return out
}

func (p panel) grafana(id int, at grafanaPos) grafanaPanel {
	out := grafanaPanel{
		ID: id, Type: "timeseries", Title: p.title, Description: p.help, GridPos: at, Datasource: source(),
		FieldConfig: &grafanaFields{Defaults: grafanaDefaults{Unit: string(p.unit)}, Overrides: []struct{}{}},
	}
	for i, q := range p.queries {
		out.Targets = append(out.Targets, grafanaTarget{RefID: string(rune('A' + i)), Expr: expand(q.expr), LegendFormat: q.legend})
	}
	return out
}

// expand replaces the short forms of an expression.
func expand(expr string) string {
	return strings.NewReplacer("{sel", `{job=~"$job"`, "[rate]", "[$__rate_interval]").Replace(expr)
}

// one returns a query list of one expression.
func one(expr, legend string) []query { return []query{{expr, legend}} }

// orZero makes an expression return 0 where its event has never happened.
func orZero(expr string) string { return expr + " or vector(0)" }

// quantiles returns the median and the 99th percentile of a classic histogram. by lists
// labels to keep, such as "operation".
func quantiles(metric, by string) []query {
	labels, legend := "le", ""
	if by != "" {
		labels, legend = "le, "+by, "{{"+by+"}} "
	}
	var out []query
	for _, q := range []string{"0.5", "0.99"} {
		out = append(out, query{
			orZero("histogram_quantile(" + q + ", sum by (" + labels + ") (rate(" + metric + "[rate])))"), legend + "q" + q,
		})
	}
	return out
}
