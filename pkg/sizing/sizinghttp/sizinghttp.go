package sizinghttp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/sizing"
)

// need is one amount, and its text for people.
type need struct {
	Part     string  `json:"part"`
	Resource string  `json:"resource"`
	Amount   float64 `json:"amount"`
	Unit     string  `json:"unit"`
	Text     string  `json:"text"`
	From     string  `json:"from"`
}

// Serve answers a GET with what the load of the parameters needs, in the form of the
// Prometheus API. The parameters have the names, forms and defaults of the flags of
// `hindsight tools sizing`; a parameter that is missing or empty has its default. It reads
// nothing but the request.
func Serve(w http.ResponseWriter, r *http.Request) {
	load, err := parse(r.URL.Query())
	if err == nil {
		err = load.Check()
	}
	if err != nil {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", errorid.Of(err), "compute sizes: "+err.Error())
		return
	}
	needs := []need{}
	for _, n := range sizing.Compute(load, sizing.Measured()) {
		needs = append(needs, need{Part: n.Part, Resource: n.Resource, Amount: n.Amount, Unit: n.Unit, Text: n.Text(), From: n.From})
	}
	b, err := json.Marshal(map[string]any{"status": "success", "data": needs})
	if err != nil {
		errorid.AnswerJSON(w, http.StatusInternalServerError, "internal", "", "print sizes: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// An error means that the client has gone.
	_, _ = w.Write(b)
}

// parse returns the load of the parameters. The error names the first wrong one.
func parse(values url.Values) (sizing.Load, error) {
	var l sizing.Load
	p := parameters{values: values, load: sizing.Defaults()}
	l.Series = p.number("series")
	l.Interval = p.duration("interval")
	l.Churn = p.number("churn")
	l.Sources, l.Replicas = p.count("sources"), p.count("replicas")
	l.ReceiveNodes, l.ReplicationFactor = p.count("receive.nodes"), p.count("receive.replication-factor")
	l.Local = p.duration("tsdb.retention")
	l.Merged = p.yes("deduplicated")
	l.Raw, l.FiveMinutes, l.OneHour = p.duration("retention.resolution-raw"), p.duration("retention.resolution-5m"), p.duration("retention.resolution-1h")
	if p.yes("downsampling.disable") {
		l.FiveMinutes, l.OneHour = 0, 0
	}
	l.BytesPerSample = p.number("bytes-per-sample")
	return l, p.err
}

// parameters reads values, and keeps the first error.
type parameters struct {
	values url.Values
	load   map[string]string
	err    error
}

func (p *parameters) text(name string) string {
	if v := p.values.Get(name); v != "" {
		return v
	}
	return p.load[name]
}

func (p *parameters) failed(name, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("parameter %s=%q: give %s", name, p.text(name), want)
	}
}

func (p *parameters) number(name string) float64 {
	v, err := strconv.ParseFloat(p.text(name), 64)
	if err != nil {
		p.failed(name, "a number")
	}
	return v
}

func (p *parameters) count(name string) int {
	v, err := strconv.ParseInt(p.text(name), 10, 32)
	if err != nil {
		p.failed(name, "a whole number")
	}
	return int(v)
}

func (p *parameters) yes(name string) bool {
	v, err := strconv.ParseBool(p.text(name))
	if err != nil {
		p.failed(name, "true or false")
	}
	return v
}

func (p *parameters) duration(name string) time.Duration {
	var d flags.Duration
	if err := d.Set(p.text(name)); err != nil {
		p.failed(name, "a duration such as 15s or 30d")
	}
	return d.Duration()
}
