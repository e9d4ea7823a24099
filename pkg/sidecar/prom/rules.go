package prom

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// Largest answers of lists that are read into memory, in bytes.
const (
	maxRulesBody   = 64 << 20
	maxTargetsBody = 256 << 20
	maxStatusBody  = 16 << 20
	maxMetaBody    = 256 << 20
	maxExemplars   = 64 << 20
)

// maxLabelText bounds the text of a label or an annotation, in bytes. Label sets
// cannot hold texts of 16 MiB.
const maxLabelText = 1 << 20

// LabelText is a JSON object of labels, or of annotations.
type LabelText struct{ labels.Labels }

// UnmarshalJSON reads the object; texts that are too long are cut.
func (l *LabelText) UnmarshalJSON(b []byte) error {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	set := labels.NewBuilder(labels.EmptyLabels())
	for name, value := range m {
		if name != "" && len(name) <= maxLabelText {
			set.Set(name, value[:min(len(value), maxLabelText)])
		}
	}
	l.Labels = set.Labels()
	return nil
}

// RuleGroup is a group of rules as the API prints it. Durations are in seconds.
type RuleGroup struct {
	Name           string    `json:"name"`
	File           string    `json:"file"`
	Rules          []Rule    `json:"rules"`
	Interval       float64   `json:"interval"`
	Limit          int64     `json:"limit"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
}

// Rule is a rule of the type "alerting" or "recording"; the latter has no state,
// durations, annotations and alerts.
type Rule struct {
	Type           string    `json:"type"`
	Name           string    `json:"name"`
	Query          string    `json:"query"`
	Labels         LabelText `json:"labels"`
	Health         string    `json:"health"`
	LastError      string    `json:"lastError"`
	EvaluationTime float64   `json:"evaluationTime"`
	LastEvaluation time.Time `json:"lastEvaluation"`
	State          string    `json:"state"`
	Duration       float64   `json:"duration"`
	KeepFiringFor  float64   `json:"keepFiringFor"`
	Annotations    LabelText `json:"annotations"`
	Alerts         []Alert   `json:"alerts"`
}

// Alert is an active alert.
type Alert struct {
	Labels      LabelText `json:"labels"`
	Annotations LabelText `json:"annotations"`
	State       string    `json:"state"`
	ActiveAt    time.Time `json:"activeAt"`
	Value       string    `json:"value"`
}

// Rules lists all rules. External labels are not added.
func (c *Client) Rules(ctx context.Context) (Answer[[]RuleGroup], error) {
	got, err := ask[struct {
		Groups []RuleGroup `json:"groups"`
	}](ctx, c, maxRulesBody, apiRequest{http.MethodGet, "/api/v1/rules", nil})
	return Answer[[]RuleGroup]{Data: got.Data.Groups, Warnings: got.Warnings, Bytes: got.Bytes}, err
}

// Targets are the targets that the server has discovered.
type Targets struct {
	Active []struct {
		Discovered         LabelText `json:"discoveredLabels"`
		Labels             LabelText `json:"labels"`
		ScrapePool         string    `json:"scrapePool"`
		ScrapeURL          string    `json:"scrapeUrl"`
		GlobalURL          string    `json:"globalUrl"`
		LastError          string    `json:"lastError"`
		LastScrape         time.Time `json:"lastScrape"`
		LastScrapeDuration float64   `json:"lastScrapeDuration"`
		Health             string    `json:"health"`
	} `json:"activeTargets"`
	Dropped []struct {
		Discovered LabelText `json:"discoveredLabels"`
	} `json:"droppedTargets"`
}

// Targets lists the targets of the state "active", "dropped" or "any".
func (c *Client) Targets(ctx context.Context, state string) (Answer[Targets], error) {
	return ask[Targets](ctx, c, maxTargetsBody, apiRequest{http.MethodGet, "/api/v1/targets", url.Values{"state": {state}}})
}

// TSDBStatus are statistics of the head. Times are milliseconds.
type TSDBStatus struct {
	Head struct {
		Series     uint64 `json:"numSeries"`
		LabelPairs int64  `json:"numLabelPairs"`
		Chunks     int64  `json:"chunkCount"`
		MinTime    int64  `json:"minTime"`
		MaxTime    int64  `json:"maxTime"`
	} `json:"headStats"`
	SeriesByMetric []NamedCount `json:"seriesCountByMetricName"`
	ValuesByLabel  []NamedCount `json:"labelValueCountByLabelName"`
	MemoryByLabel  []NamedCount `json:"memoryInBytesByLabelName"`
	SeriesByPair   []NamedCount `json:"seriesCountByLabelValuePair"`
}

// NamedCount is an entry of a list of TSDBStatus.
type NamedCount struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// TSDBStatus asks for lists of at most limit entries.
func (c *Client) TSDBStatus(ctx context.Context, limit int) (Answer[TSDBStatus], error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	return ask[TSDBStatus](ctx, c, maxStatusBody, apiRequest{http.MethodGet, "/api/v1/status/tsdb", q})
}
