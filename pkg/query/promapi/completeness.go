package promapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// completenessJSON is the field "completeness" of an answer, beside "warnings".
type completenessJSON struct {
	Complete bool          `json:"complete"`
	Missing  []missingJSON `json:"missing,omitempty"`
	// More counts the entries that do not fit.
	More    int           `json:"more,omitempty"`
	Skipped []skippedJSON `json:"skipped,omitempty"`
}

type missingJSON struct {
	Store  string              `json:"store"`
	Labels []map[string]string `json:"labels,omitempty"`
	// MinTime and MaxTime are inclusive, in milliseconds; absent when the request
	// has no time range.
	MinTime *int64 `json:"mint,omitempty"`
	MaxTime *int64 `json:"maxt,omitempty"`
	Reason  string `json:"reason"`
	Error   string `json:"error,omitempty"`
	// ErrorID is the id of the page that explains the reason.
	ErrorID errorid.ID `json:"errorId,omitempty"`
}

type skippedJSON struct {
	Store  string `json:"store"`
	Reason string `json:"reason"`
}

// completenessOf is the content of the report. An answer with an error is not
// complete, also when no store is to blame.
func completenessOf(report *storeapi.Report, failed bool) completenessJSON {
	missing, more := report.Missing()
	out := completenessJSON{Complete: !failed && len(missing) == 0, More: more}
	for _, m := range missing {
		j := missingJSON{Store: m.Store, Reason: m.Reason.String(), Error: m.Text, ErrorID: m.Reason.ErrorID()}
		for _, ls := range m.LabelSets {
			j.Labels = append(j.Labels, ls.Map())
		}
		if m.MinTime != 0 || m.MaxTime != 0 {
			mint, maxt := clampTime(m.MinTime), clampTime(m.MaxTime)
			j.MinTime, j.MaxTime = &mint, &maxt
		}
		out.Missing = append(out.Missing, j)
	}
	for _, s := range report.Skipped() {
		out.Skipped = append(out.Skipped, skippedJSON{Store: s.Store, Reason: s.Reason.String()})
	}
	return out
}

// clampTime keeps a time within those that a client can hold exactly as a JSON
// number.
func clampTime(t int64) int64 {
	const most = 1<<53 - 1
	return max(-most, min(most, t))
}

// namesOf are the sorted names of the stores that the answer lacks.
func namesOf(report *storeapi.Report) []string {
	missing, _ := report.Missing()
	names := make([]string, 0, len(missing))
	for _, m := range missing {
		if m.Store != "" {
			names = append(names, m.Store)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// completed adds the field "completeness" to the JSON object that next writes, and
// compresses the answer. next has read everything before it writes the first
// byte.
func completed(next http.Handler) http.Handler {
	return compressed(func(w http.ResponseWriter, r *http.Request) {
		// The object has to arrive here as it is.
		plain := *r
		plain.Header = r.Header.Clone()
		plain.Header.Del("Accept-Encoding")
		out := &completing{ResponseWriter: w, report: storeapi.ReportFromContext(r.Context())}
		next.ServeHTTP(out, &plain)
		out.end()
	})
}

// completing is a ResponseWriter that inserts a field behind the first one of an
// answer in the form of the Prometheus API.
type completing struct {
	http.ResponseWriter
	report *storeapi.Report
	// head is the begin of the answer, until it is long enough to be recognised.
	head []byte
	// passing says that the rest is passed on unchanged.
	passing bool
	failed  error
}

// The first fields of answers.
const (
	successHead = `{"status":"success"`
	errorHead   = `{"status":"error"`
)

// Write implements http.ResponseWriter.
func (c *completing) Write(b []byte) (int, error) {
	if c.passing {
		return c.ResponseWriter.Write(b)
	}
	c.head = append(c.head, b...)
	if len(c.head) >= len(successHead) {
		c.end()
	}
	return len(b), c.failed
}

// end writes the begin of the answer, with the field if it is one that can have
// it.
func (c *completing) end() {
	if c.passing {
		return
	}
	c.passing = true
	if len(c.head) == 0 {
		return
	}
	head := c.head
	c.head = nil
	isJSON := strings.HasPrefix(c.Header().Get("Content-Type"), "application/json")
	for _, known := range [...]string{successHead, errorHead} {
		rest, ok := bytes.CutPrefix(head, []byte(known))
		if !ok || !isJSON {
			continue
		}
		field, err := json.Marshal(completenessOf(c.report, known == errorHead))
		if err != nil {
			break // labels are strings; it cannot happen
		}
		c.write([]byte(known + `,"completeness":`))
		c.write(field)
		head = rest
	}
	c.write(head)
}

func (c *completing) write(b []byte) {
	if c.failed == nil {
		_, c.failed = c.ResponseWriter.Write(b)
	}
}

// Flush lets next stream.
func (c *completing) Flush() {
	c.end()
	if f, ok := c.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// partialOf is whether an answer may lack something when the request does not
// say. Answers that are stored or that decide about alerts, and those whose reader
// sees no warnings, may not.
func (d Defaults) partialOf(r *http.Request) bool {
	switch {
	case strings.HasSuffix(r.URL.Path, "/federate"):
		return d.FederatePartial
	case strings.HasSuffix(r.URL.Path, "/api/v1/read"):
		return d.RemoteReadPartial
	case r.Header.Get("FromAlert") == "true":
		// Grafana evaluates a rule.
		return d.AlertPartial
	}
	return d.PartialResponse
}
