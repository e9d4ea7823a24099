package query

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// hostileStore has the series of testdata/hostile.txt, and metadata.
func hostileStore(t *testing.T) storeapi.Store {
	s := fakeStore(t, "s", 40, 500)
	s.About.MinTime, s.About.MaxTime = 0, math.MaxInt64
	return &described{named: s}
}

var repetition = regexp.MustCompile(`\{(\d+)\*((?:[^{}]|\{\d+\})*)\}`)

// expand writes out {N*text}.
func expand(s string) string {
	return repetition.ReplaceAllStringFunc(s, func(m string) string {
		parts := repetition.FindStringSubmatch(m)
		n, _ := strconv.Atoi(parts[1])
		return strings.Repeat(parts[2], n)
	})
}

// postForm posts parameters in a body.
func postForm(t *testing.T, target string, form url.Values) (int, string) {
	resp, err := http.PostForm(target, form)
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.ReplaceAll(string(answer), `\"`, `"`)
}

// Every line of testdata/hostile.txt ends with the status and the limit that it
// names, in little time and memory.
func TestHostile_EachRequestNamesItsLimit(t *testing.T) {
	text, err := os.ReadFile("testdata/hostile.txt")
	require.NoError(t, err)
	queriers := map[string]*process{}
	store := hostileStore(t)
	cases := 0
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		cases++
		fields := strings.Split(line, " | ")
		flag := ""
		if len(fields) > 3 {
			flag = fields[3]
		}
		q := queriers[flag]
		if q == nil {
			args := []string{}
			if flag != "" {
				args = append(args, flag)
			}
			q = localQuerier(t, []storeapi.Store{store}, args...)
			queriers[flag] = q
		}
		path, parameters, _ := strings.Cut(fields[0], "?")
		if path[0] != '/' {
			path = "/api/v1/" + path
		}
		form := url.Values{}
		for _, p := range strings.Split(expand(parameters), "&") {
			if name, value, ok := strings.Cut(p, "="); ok {
				form.Add(name, value)
			}
		}
		start := time.Now()
		var code int
		var body string
		if encoded := form.Encode(); len(encoded) < 500_000 {
			resp, err := http.Get(q.url + path + "?" + encoded)
			require.NoError(t, err)
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			code, body = resp.StatusCode, strings.ReplaceAll(string(b), `\"`, `"`)
		}
		if len(form.Encode()) >= 500_000 || code == http.StatusRequestHeaderFieldsTooLarge {
			code, body = postForm(t, q.url+path, form)
		}
		require.Equal(t, fields[1], strconv.Itoa(code), "%s: %.300s", line, body)
		require.Contains(t, body, strings.TrimSpace(fields[2]), line)
		require.Less(t, len(body), 2000, "%s: the error must not repeat the request", line)
		require.Less(t, time.Since(start), 10*time.Second, line)
		require.Zero(t, q.q.engine.budget.used, line)
	}
	require.Greater(t, cases, 40)
}

// Remote read has the same limits as selectors.
func TestHostile_RemoteRead(t *testing.T) {
	q := localQuerier(t, []storeapi.Store{hostileStore(t)}, "--query.max-matchers=10")
	read := func(ms ...*prompb.LabelMatcher) (int, string) {
		body, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{Matchers: ms, EndTimestampMs: math.MaxInt64}}}).Marshal()
		require.NoError(t, err)
		resp, err := http.Post(q.url+"/api/v1/read", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, body)))
		require.NoError(t, err)
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(answer)
	}
	code, text := read(slices.Repeat([]*prompb.LabelMatcher{{Name: "a", Value: "b"}}, 11)...)
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, text, "--query.max-matchers")
	// An internal error would be repeated.
	code, text = read(&prompb.LabelMatcher{Type: prompb.LabelMatcher_RE, Name: "a", Value: "("})
	require.Equal(t, http.StatusBadRequest, code, text)
	code, text = read(&prompb.LabelMatcher{Type: 9, Name: "a", Value: "b"})
	require.Equal(t, http.StatusBadRequest, code, text)
}

// Prometheus answers a request for all series, which stores refuse without a matcher.
func TestFederateAndRemoteRead_AcceptNoMatchers(t *testing.T) {
	q := localQuerier(t, []storeapi.Store{describedStore(t, "all", "all")})
	resp, err := http.Get(q.url + "/federate?match[]=%7B%7D")
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(answer))
	body, err := (&prompb.ReadRequest{Queries: []*prompb.Query{{EndTimestampMs: math.MaxInt64}}}).Marshal()
	require.NoError(t, err)
	read, err := http.Post(q.url+"/api/v1/read", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, body)))
	require.NoError(t, err)
	defer read.Body.Close()
	require.Equal(t, http.StatusOK, read.StatusCode)
}

// A hundred queries that do not fit side by side take turns: none fails, and the
// memory stays within the limit. A cheap one is answered meanwhile.
func TestHostile_HundredHeavyQueriesTakeTurns(t *testing.T) {
	const most = 5 << 20
	q := localQuerier(t, []storeapi.Store{fakeStore(t, "a", 60, 400), describedStore(t, "cheap", "cheap")}, "--query.max-memory=5MiB")
	var heavy sync.WaitGroup
	codes := make(chan string, 100)
	for range 100 {
		heavy.Go(func() {
			resp, err := http.Get(q.url + "/api/v1/query_range?query=m&start=0&end=399&step=1")
			if err != nil {
				codes <- err.Error()
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			codes <- resp.Status
		})
	}
	<-codes // all others run or wait
	got, a := q.vector("cheap", "time", "4")
	require.Equal(t, 200, a.code, a.Error)
	require.NotEmpty(t, got)
	heavy.Wait()
	close(codes)
	for c := range codes {
		require.Equal(t, "200 OK", c)
	}
	b := q.q.engine.budget
	require.LessOrEqual(t, b.peak, int64(most))
	require.Greater(t, b.peak, int64(most/4), "they did not run one by one either")
	requireEmpty(t, b)
}
