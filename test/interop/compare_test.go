package interop

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// question is a request to the API of a querier.
type question struct {
	path   string
	params url.Values
}

func (q question) String() string {
	text, err := url.QueryUnescape(q.params.Encode())
	if err != nil {
		return err.Error()
	}
	return q.path + "?" + text
}

// ask makes a question of pairs of a parameter and its value.
func ask(path string, kv ...string) question {
	q := question{path: path, params: url.Values{}}
	for i := 0; i+1 < len(kv); i += 2 {
		q.params.Add(kv[i], kv[i+1])
	}
	return q
}

// with returns a copy of the question with more parameters.
func (q question) with(kv ...string) question {
	out := ask(q.path, kv...)
	for k, v := range q.params {
		out.params[k] = append(out.params[k], v...)
	}
	return out
}

// reply is an answer that can be compared: times of checks and errors are left out.
type reply struct {
	status   int
	data     any
	warnings []string
	raw      string
}

// put asks a question.
func (n *node) put(t testing.TB, q question) reply {
	t.Helper()
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	resp, err := client.Get(n.url() + q.path + "?" + q.params.Encode())
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var env struct {
		Data     any
		Warnings []string
	}
	out := reply{status: resp.StatusCode, raw: string(body)}
	if err := json.Unmarshal(body, &env); err != nil {
		require.NotEqual(t, http.StatusOK, resp.StatusCode, "%s: %s: %.300s", n.Name, q, body)
	}
	out.data, out.warnings = order(env.Data), env.Warnings
	return out
}

// order sorts the parts of an answer whose order says nothing, and removes what differs from one
// moment to the next.
func order(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for _, name := range leftOut() {
			delete(x, name)
		}
		delete(x, "partialResponseStrategy")
		if ls, ok := x["labels"].(map[string]any); ok && x["activeAt"] != nil {
			// They differ between replicas, and the value changes with each evaluation.
			delete(x, "value")
			delete(x, "activeAt")
			// Thanos adds external labels to rules only.
			delete(ls, "cluster")
			delete(ls, "ruler")
		}
		for k := range x {
			x[k] = order(x[k])
		}
		return x
	case []any:
		for i := range x {
			x[i] = order(x[i])
		}
		// Pairs of a time and a value stay as they are.
		if len(x) > 0 {
			if _, number := x[0].(float64); number {
				return x
			}
		}
		slices.SortStableFunc(x, func(a, b any) int { return strings.Compare(text(a), text(b)) })
		return x
	}
	return v
}

// leftOut are the members of answers that differ from one moment to the next, and those that one
// program has in addition: an empty analysis in each answer of Thanos; intervals of targets.
func leftOut() []string {
	return []string{
		"lastCheck", "lastEvaluation", "evaluationTime", "lastScrape", "lastScrapeDuration",
		"analysis", "scrapeInterval", "scrapeTimeout",
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// differ describes the first difference of two values; numbers in texts may differ in their last
// digits, because sums depend on the order of series.
func differ(at string, a, b any) string {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s: %.200s and %.200s", at, text(a), text(b))
		}
		keys := slices.Collect(maps.Keys(x))
		for k := range y {
			if _, ok := x[k]; !ok {
				keys = append(keys, k)
			}
		}
		slices.Sort(keys)
		for _, k := range keys {
			if d := differ(at+"."+k, x[k], y[k]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return fmt.Sprintf("%s: %d elements %.600s\nand %d elements %.600s", at, len(x), text(a), len(y), text(b))
		}
		for i := range x {
			if d := differ(fmt.Sprintf("%s[%d]", at, i), x[i], y[i]); d != "" {
				return d
			}
		}
		return ""
	case string:
		if y, ok := b.(string); ok && sameNumber(x, y) {
			return ""
		}
	}
	if text(a) != text(b) {
		return fmt.Sprintf("%s: %.300s and %.300s", at, text(a), text(b))
	}
	return ""
}

// sameNumber reports whether two texts are numbers that differ by rounding only.
func sameNumber(a, b string) bool {
	x, err := strconv.ParseFloat(a, 64)
	if err != nil {
		return false
	}
	y, err := strconv.ParseFloat(b, 64)
	if err != nil {
		return false
	}
	return x == y || math.IsNaN(x) && math.IsNaN(y) || math.Abs(x-y) <= 1e-12*max(math.Abs(x), math.Abs(y))
}

// same requires that two nodes give the same answers.
func same(t *testing.T, a, b *node, questions ...question) {
	t.Helper()
	failed := 0
	defer func() { require.Zero(t, failed, "answers that differ, of %d", len(questions)) }()
	for _, q := range questions {
		if failed == 10 {
			return
		}
		x, y := a.put(t, q), b.put(t, q)
		if x.status != y.status {
			failed++
			t.Errorf("%s: %s answers %d %.300s\n%s answers %d %.300s", q, a.Name, x.status, x.raw, b.Name, y.status, y.raw)
			continue
		}
		if d := differ("", x.data, y.data); d != "" {
			failed++
			t.Errorf("%s: %s and %s differ at %s", q, a.Name, b.Name, d)
		}
		if (len(x.warnings) == 0) != (len(y.warnings) == 0) {
			failed++
			t.Errorf("%s: warnings of %s %q, of %s %q", q, a.Name, x.warnings, b.Name, y.warnings)
		}
	}
}

// seconds formats a time as a parameter.
func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// overRange asks for expressions from start to end.
func overRange(start, end time.Time, step string, exprs ...string) (out []question) {
	for _, e := range exprs {
		out = append(out, ask("/api/v1/query_range", "query", e, "start", seconds(start), "end", seconds(end), "step", step))
	}
	return out
}

// atTime asks for expressions at one time.
func atTime(at time.Time, exprs ...string) (out []question) {
	for _, e := range exprs {
		out = append(out, ask("/api/v1/query", "query", e, "time", seconds(at)))
	}
	return out
}

// each adds parameters to questions.
func each(questions []question, kv ...string) (out []question) {
	for _, q := range questions {
		out = append(out, q.with(kv...))
	}
	return out
}
