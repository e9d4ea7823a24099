package promapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/stats"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// hardLabels are labels that are hard to print.
func hardLabels(rnd *rand.Rand) labels.Labels {
	words := []string{"", "up", `a"b\c`, "<script>&amp;</script>", "line\nbreak\ttab", "grüße 世界", "\xff\xfe", "\u2028", "\x00\x1f\x7f"}
	b := labels.NewBuilder(labels.EmptyLabels())
	for range rnd.IntN(4) {
		b.Set("l"+words[rnd.IntN(len(words))], words[rnd.IntN(len(words))])
	}
	return b.Labels()
}

func hardFloat(rnd *rand.Rand) float64 {
	hard := []float64{0, math.Copysign(0, -1), 1, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e21, 1e-7, math.MaxFloat64, math.SmallestNonzeroFloat64}
	if n := rnd.IntN(2 * len(hard)); n < len(hard) {
		return hard[n]
	}
	return math.Float64frombits(rnd.Uint64())
}

func hardTime(rnd *rand.Rand) int64 { return rnd.Int64N(4e12) - 2e12 }

func someHistogram(rnd *rand.Rand) *histogram.FloatHistogram {
	if rnd.IntN(3) == 0 {
		return &histogram.FloatHistogram{
			Schema: histogram.CustomBucketsSchema, CustomValues: []float64{.5, 1, 2}, Count: 3, Sum: hardFloat(rnd),
			PositiveSpans: []histogram.Span{{Length: 3}}, PositiveBuckets: []float64{1, 0, hardFloat(rnd)},
		}
	}
	return &histogram.FloatHistogram{
		Schema: int32(rnd.IntN(8)) - 2, Count: hardFloat(rnd), Sum: hardFloat(rnd), ZeroCount: float64(rnd.IntN(2)), ZeroThreshold: 1e-3,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []float64{1, 2, hardFloat(rnd)},
		NegativeSpans: []histogram.Span{{Offset: 1, Length: 1}}, NegativeBuckets: []float64{4},
	}
}

// randomMatrix has n series with up to points points each.
func randomMatrix(rnd *rand.Rand, n, points int) promql.Matrix {
	m := make(promql.Matrix, n)
	for i := range m {
		m[i].Metric = hardLabels(rnd)
		for range rnd.IntN(points + 1) {
			if rnd.IntN(4) > 0 {
				m[i].Floats = append(m[i].Floats, promql.FPoint{T: hardTime(rnd), F: hardFloat(rnd)})
			} else {
				m[i].Histograms = append(m[i].Histograms, promql.HPoint{T: hardTime(rnd), H: someHistogram(rnd)})
			}
		}
	}
	return m
}

// someResponses are answers of every kind, empty ones among them.
func someResponses(rnd *rand.Rand) map[string]any {
	vec := promql.Vector{}
	for range 50 {
		s := promql.Sample{Metric: hardLabels(rnd), T: hardTime(rnd), F: hardFloat(rnd)}
		if rnd.IntN(3) == 0 {
			s.H = someHistogram(rnd)
		}
		vec = append(vec, s)
	}
	ls := []labels.Labels{labels.EmptyLabels()}
	values := []string{}
	for range 3000 {
		ls = append(ls, hardLabels(rnd))
		values = append(values, hardLabels(rnd).String())
	}
	timed := stats.NewQueryStats(&stats.Statistics{Timers: stats.NewQueryTimers(), Samples: stats.NewQuerySamples(true)})
	return map[string]any{
		"matrix":       &v1.QueryData{ResultType: "matrix", Result: randomMatrix(rnd, 40, 100)},
		"long series":  &v1.QueryData{ResultType: "matrix", Result: randomMatrix(rnd, 2, 11_000)},
		"empty matrix": &v1.QueryData{ResultType: "matrix", Result: promql.Matrix{}},
		"nil matrix":   &v1.QueryData{ResultType: "matrix", Result: promql.Matrix(nil)},
		"vector":       &v1.QueryData{ResultType: "vector", Result: vec, Stats: timed},
		"empty vector": &v1.QueryData{ResultType: "vector", Result: promql.Vector{}},
		"scalar":       &v1.QueryData{ResultType: "scalar", Result: promql.Scalar{T: 1, V: math.NaN()}},
		"string":       &v1.QueryData{ResultType: "string", Result: promql.String{T: 1500, V: "<x>\xff"}},
		"cost":         &v1.QueryData{ResultType: "vector", Result: promql.Vector{}, Cost: &v1.QueryCostComparison{}},
		"series":       ls, "no series": []labels.Labels{}, "nil series": []labels.Labels(nil),
		"values": values, "no values": []string{}, "nil values": []string(nil),
		"exemplars": []exemplar.QueryResult{
			{SeriesLabels: hardLabels(rnd), Exemplars: []exemplar.Exemplar{{Labels: hardLabels(rnd), Value: 1, Ts: 1001}, {Value: math.NaN()}}}, {},
		},
		"no exemplars": []exemplar.QueryResult{},
		"other":        map[string]string{"a": "b"},
	}
}

// printed returns what the printer answers to a request.
func printed(t *testing.T, ctx context.Context, w http.ResponseWriter, resp *v1.Response) {
	t.Helper()
	p := newPrinter(nil)
	p.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b, err := p.Encode(resp)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusOK)
		if _, err := w.Write(b); err != nil {
			t.Log("write:", err)
		}
	})).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	if len(p.waiting) > 0 {
		t.Error("the printer keeps an answer")
	}
}

func TestPrinter_PrintsAsPrometheus(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for name, data := range someResponses(rnd) {
		for _, notes := range [][]string{nil, {"<one>", `"two"`}} {
			resp := &v1.Response{Status: "success", Data: data, Warnings: notes, Infos: notes}
			want, err := v1.JSONCodec{}.Encode(resp)
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			printed(t, context.Background(), w, resp)
			if got := w.Body.String(); got != string(want) || w.Code != http.StatusOK {
				t.Errorf("%s: status %d, got\n%.300s\nwant\n%.300s", name, w.Code, got, want)
			}
		}
	}
}

func TestPrinter_RefusesWhatJSONCannotHave(t *testing.T) {
	w := httptest.NewRecorder()
	printed(t, context.Background(), w, &v1.Response{Status: "success", Data: &v1.QueryData{Result: promql.Vector{}, Stats: &badStats{}}})
	if w.Code != http.StatusInternalServerError {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

type badStats struct{ stats.BuiltinStats }

func (*badStats) MarshalJSON() ([]byte, error) { return nil, errors.New("no statistics") }

// cutWriter ends the request with its n-th write.
type cutWriter struct {
	*httptest.ResponseRecorder
	n      int
	cancel context.CancelFunc
	after  int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if w.n--; w.n < 0 {
		w.after++
	}
	if w.n == 0 {
		w.cancel()
	}
	return w.ResponseRecorder.Write(b)
}

func TestPrinter_EndsWithTheRequest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	values := make([]string, 100_000)
	for i := range values {
		values[i] = fmt.Sprint("value ", i)
	}
	for name, data := range map[string]any{
		"many series": &v1.QueryData{ResultType: "matrix", Result: randomMatrix(rnd, 3000, 10)},
		"long series": &v1.QueryData{ResultType: "matrix", Result: randomMatrix(rnd, 1, 40_000)},
		"values":      values,
	} {
		ctx, cancel := context.WithCancel(context.Background())
		w := &cutWriter{ResponseRecorder: httptest.NewRecorder(), n: 3, cancel: cancel}
		func() {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // it is this value
					t.Errorf("%s: the connection is not broken: %v", name, p)
				}
			}()
			printed(t, ctx, w, &v1.Response{Status: "success", Data: data})
		}()
		if w.after != 0 {
			t.Errorf("%s: %d pieces after the end of the request", name, w.after)
		}
		if most := 4 * (pageSize + pageSize/4); w.Body.Len() > most {
			t.Errorf("%s: %d bytes before the end, more than %d", name, w.Body.Len(), most)
		}
	}
}

// TestPrinter_LateAnswersAreErrors ends requests before the first piece.
func TestPrinter_LateAnswersAreErrors(t *testing.T) {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	ended, end := context.WithCancelCause(context.Background())
	end(errors.New("ended by somebody"))
	for _, c := range []struct {
		ctx  context.Context
		code int
		text string
	}{
		{canceled, http.StatusServiceUnavailable, `"errorType":"canceled","error":"query was canceled in printing`},
		{late, http.StatusServiceUnavailable, `"errorType":"timeout","error":"query timed out in printing`},
		{ended, http.StatusUnprocessableEntity, `"errorType":"execution","error":"ended by somebody [hs-query-failed]","errorId":"hs-query-failed"`},
	} {
		w := httptest.NewRecorder()
		printed(t, c.ctx, w, &v1.Response{Status: "success", Data: []string{"a"}})
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("got %d %s, want %d %s", w.Code, w.Body, c.code, c.text)
		}
	}
}

// deafWriter is a connection whose client reads nothing. A write blocks until its
// deadline.
type deafWriter struct {
	*httptest.ResponseRecorder
	writing, over chan struct{}
}

func (w *deafWriter) Write([]byte) (int, error) {
	close(w.writing)
	<-w.over
	return 0, errors.New("deadline exceeded")
}

func (w *deafWriter) SetWriteDeadline(time.Time) error {
	close(w.over)
	return nil
}

func TestPrinter_ClientThatReadsNothing(t *testing.T) {
	w := &deafWriter{ResponseRecorder: httptest.NewRecorder(), writing: make(chan struct{}), over: make(chan struct{})}
	ctx, cancel := context.WithCancel(withConnection(context.Background(), w))
	go func() {
		<-w.writing
		cancel()
	}()
	defer func() {
		if p := recover(); p != http.ErrAbortHandler { //nolint:errorlint // it is this value
			t.Errorf("the connection is not broken: %v", p)
		}
	}()
	printed(t, ctx, w, &v1.Response{Status: "success", Data: []string{"a"}})
}

// TestFederate_EndsWithTheRequest ends a request while its one large family is
// printed, and before.
func TestFederate_EndsWithTheRequest(t *testing.T) {
	vec := make(promql.Vector, 20_000)
	for i := range vec {
		vec[i] = promql.Sample{Metric: labels.FromStrings("__name__", "up", "n", fmt.Sprint(i)), F: float64(i)}
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	a := New(Config{Logger: slog.New(slog.DiscardHandler)})
	request := func(n int) (w *cutWriter, aborted any) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		w = &cutWriter{ResponseRecorder: httptest.NewRecorder(), n: n, cancel: cancel}
		if n == 0 {
			cancel()
		}
		defer func() { aborted = recover() }()
		a.exposition(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/federate", nil), families(vec, format), format)
		return w, nil
	}
	w, aborted := request(3)
	if aborted != http.ErrAbortHandler || w.after != 0 || w.Body.Len() > 64<<10 { //nolint:errorlint // it is this value
		t.Errorf("panic %v, %d bytes, %d writes after the end", aborted, w.Body.Len(), w.after)
	}
	w, aborted = request(0)
	if aborted != nil || w.Code != http.StatusServiceUnavailable {
		t.Errorf("panic %v, status %d, %.100s", aborted, w.Code, w.Body)
	}
}
