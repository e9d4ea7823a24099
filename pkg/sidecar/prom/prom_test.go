package prom_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
)

func newClient(t *testing.T, u *url.URL, yaml string) *prom.Client {
	t.Helper()
	cfg, err := httpclient.Parse([]byte(yaml))
	require.NoError(t, err)
	c, err := prom.New(u, cfg, "Hindsight/test")
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func all(name string) []*labels.Matcher {
	return []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, name)}
}

func TestClient_ReadsStatus(t *testing.T) {
	s := promtest.New(t, promtest.Options{
		ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "1"),
		Flags:          map[string]string{"storage.tsdb.min-block-duration": "2h"},
		PathPrefix:     "/prom/one",
	})
	c := newClient(t, s.URL(), "")
	ctx := t.Context()

	ext, err := c.ExternalLabels(ctx)
	require.NoError(t, err)
	require.Equal(t, labels.FromStrings("cluster", "eu", "replica", "1"), ext)

	fl, err := c.Flags(ctx)
	require.NoError(t, err)
	require.Equal(t, "2h", fl["storage.tsdb.min-block-duration"])

	times, err := c.Times(ctx)
	require.NoError(t, err)
	require.Equal(t, prom.Times{Lowest: math.MinInt64, HeadMin: math.MinInt64, HeadMax: math.MinInt64}, times, "an empty database has no oldest sample")
	s.Append(t, labels.FromStrings("__name__", "up"), 1_700_000_000_123, 1000, 1)
	times, err = c.Times(ctx)
	require.NoError(t, err)
	require.Equal(t, prom.Times{Lowest: 1_700_000_000_000, HeadMin: 1_700_000_000_123, HeadMax: 1_700_000_000_123}, times)

	blocks, err := c.Blocks(ctx)
	require.NoError(t, err)
	require.Empty(t, blocks)

	require.NoError(t, c.Reload(ctx))
	require.Equal(t, int64(1), s.Reloads())

	s.SetDown(true)
	_, err = c.ExternalLabels(ctx)
	var pe *prom.Error
	require.ErrorAs(t, err, &pe)
	require.Equal(t, http.StatusServiceUnavailable, pe.Status)
	require.EqualError(t, err, "ask /api/v1/status/config: Prometheus answered 503: Service Unavailable")
}

func TestClient_ReadsSeriesAndLabels(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu")})
	for _, ls := range []labels.Labels{
		labels.FromStrings("__name__", "up", "job", "a"),
		labels.FromStrings("__name__", "up", "job", "b\"c"),
		labels.FromStrings("__name__", "up", "job", "c", "my.dotted_name", "x", "U__odd", "y"),
	} {
		s.Append(t, ls, 1000, 1000, 1, 2)
	}
	c := newClient(t, s.URL(), "")
	sel := prom.Selection{MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: all("up")}

	series, _, err := c.Series(t.Context(), sel)
	require.NoError(t, err)
	require.Len(t, series, 3)

	// A selector that the empty label set satisfies.
	empty := sel
	empty.Matchers = []*labels.Matcher{labels.MustNewMatcher(labels.MatchNotEqual, "job", "a")}
	series, _, err = c.Series(t.Context(), empty)
	require.NoError(t, err)
	require.Len(t, series, 2)

	names, _, err := c.LabelNames(t.Context(), sel)
	require.NoError(t, err)
	require.Equal(t, []string{"U__odd", "__name__", "job", "my.dotted_name"}, names)
	names, _, err = c.LabelNames(t.Context(), prom.Selection{MinTime: math.MinInt64, MaxTime: math.MaxInt64})
	require.NoError(t, err)
	require.Len(t, names, 4)

	for name, want := range map[string][]string{
		"job":            {"a", "b\"c", "c"},
		"my.dotted_name": {"x"},
		"U__odd":         {"y"},
		"absent":         {},
	} {
		values, _, err := c.LabelValues(t.Context(), name, sel)
		require.NoError(t, err)
		require.Equal(t, want, values, name)
	}

	outside := prom.Selection{MinTime: 5_000_000, MaxTime: 6_000_000, Matchers: all("up")}
	names, _, err = c.LabelNames(t.Context(), outside)
	require.NoError(t, err)
	require.Empty(t, names)
}

func TestClient_ErrorsNameServer(t *testing.T) {
	u, err := url.Parse("http://user:secret@127.0.0.1:1/x")
	require.NoError(t, err)
	_, err = newClient(t, u, "").Flags(t.Context())
	require.ErrorContains(t, err, "ask /api/v1/status/flags at http://user:xxxxx@127.0.0.1:1/x")
	require.NotContains(t, err.Error(), "secret")

	bad, err := url.Parse("prometheus:9090")
	require.NoError(t, err)
	_, err = prom.New(bad, httpclient.Default(), "")
	require.ErrorContains(t, err, "is not the URL of a Prometheus server")
}

func TestClient_SendsCredentials(t *testing.T) {
	var auth, agent string
	wrap := func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			auth, agent = r.Header.Get("Authorization"), r.UserAgent()
			h.ServeHTTP(w, r)
		})
	}
	s := promtest.New(t, promtest.Options{Wrap: wrap})
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("from-file\n"), 0o600))

	for yaml, want := range map[string]string{
		"":                                       "",
		"bearer_token: abc":                      "Bearer abc",
		"bearer_token_file: " + token:            "Bearer from-file",
		"basic_auth: {username: u, password: p}": "Basic dTpw",
	} {
		_, err := newClient(t, s.URL(), yaml).Flags(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, auth, yaml)
		require.Equal(t, "Hindsight/test", agent)
	}
}

// read collects a stream as text: labels, then per chunk its span and encoding.
func read(t *testing.T, c *prom.Client, q prom.ReadQuery) (out []string, samples int) {
	t.Helper()
	set, err := c.Read(t.Context(), q)
	require.NoError(t, err)
	for set.Next() {
		line := set.Labels().String()
		for _, ch := range set.Chunks() {
			dec, err := chunkenc.FromData(ch.Encoding, ch.Bytes)
			require.NoError(t, err)
			samples += dec.NumSamples()
			line += fmt.Sprintf(" %d-%d:%s", ch.MinTime, ch.MaxTime, ch.Encoding)
		}
		out = append(out, line)
	}
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
	return out, samples
}

func TestRead_StreamsEveryEncoding(t *testing.T) {
	for _, xor2 := range []bool{false, true} {
		t.Run(fmt.Sprint("xor2=", xor2), func(t *testing.T) {
			s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "job", "ext"), XOR2: xor2})
			s.Append(t, labels.FromStrings("__name__", "m", "kind", "a"), 1000, 1000, 1, 2, 3)
			s.Append(t, labels.FromStrings("__name__", "m", "kind", "b", "cluster", "own"), 1000, 1000, 1)
			s.Write(t, func(app storage.Appender) error {
				for i := range int64(3) {
					if _, err := app.AppendHistogram(0, labels.FromStrings("__name__", "m", "kind", "h"), 1000+i, tsdbutil.GenerateTestHistogram(i), nil); err != nil {
						return err
					}
					if _, err := app.AppendHistogram(0, labels.FromStrings("__name__", "m", "kind", "fh"), 1000+i, nil, tsdbutil.GenerateTestFloatHistogram(i)); err != nil {
						return err
					}
				}
				return nil
			})
			got, n := read(t, newClient(t, s.URL(), ""), prom.ReadQuery{
				MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: all("m"),
				Strip: labels.FromStrings("cluster", "eu", "job", "ext"),
			})
			enc := "XOR"
			if xor2 {
				enc = "XOR2"
			}
			require.Equal(t, []string{
				`{__name__="m", kind="a"} 1000-3000:` + enc,
				`{__name__="m", cluster="own", kind="b"} 1000-1000:` + enc,
				`{__name__="m", kind="fh"} 1000-1002:floathistogram`,
				`{__name__="m", kind="h"} 1000-1002:histogram`,
			}, sortedByKind(got))
			require.Equal(t, 3+1+3+3, n)
		})
	}
}

// sortedByKind is the order of the stored label sets, where cluster="own" sorts
// before kind.
func sortedByKind(in []string) []string {
	if len(in) == 4 && in[0][:24] == `{__name__="m", cluster="` {
		in[0], in[1] = in[1], in[0]
	}
	return in
}

func TestRead_JoinsFramesOfOneSeries(t *testing.T) {
	s := promtest.New(t, promtest.Options{MaxBytesInFrame: 200})
	values := make([]float64, 1000)
	for i := range values {
		values[i] = math.Sqrt(float64(i))
	}
	s.Append(t, labels.FromStrings("__name__", "m", "i", "0"), 0, 1000, values...)
	s.Append(t, labels.FromStrings("__name__", "m", "i", "1"), 0, 1000, values...)
	got, n := read(t, newClient(t, s.URL(), ""), prom.ReadQuery{MinTime: 0, MaxTime: 1 << 50, Matchers: all("m")})
	require.Equal(t, 2000, n)
	require.Greater(t, len(got), 4, "a series is split over frames")
}

func TestRead_EncodesSamplesOfOldServer(t *testing.T) {
	// A proxy that hides the streamed type from Prometheus, as old servers did.
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), Wrap: promtest.OnlySamples})
	values := make([]float64, 300)
	s.Append(t, labels.FromStrings("__name__", "m", "i", "1"), 0, 1000, values...)
	s.Append(t, labels.FromStrings("__name__", "m", "i", "0"), 0, 1000, 1)
	s.Write(t, func(app storage.Appender) error {
		_, err := app.AppendHistogram(0, labels.FromStrings("__name__", "m", "i", "2"), 5, tsdbutil.GenerateTestHistogram(1), nil)
		return err
	})
	got, n := read(t, newClient(t, s.URL(), ""), prom.ReadQuery{
		MinTime: 0, MaxTime: 1 << 50, Matchers: all("m"), Strip: labels.FromStrings("cluster", "eu"),
	})
	require.Equal(t, []string{
		`{__name__="m", i="0"} 0-0:XOR`,
		`{__name__="m", i="1"} 0-119000:XOR 120000-239000:XOR 240000-299000:XOR`,
		`{__name__="m", i="2"} 5-5:histogram`,
	}, got)
	require.Equal(t, 302, n)
}

func TestRead_RefusesBrokenStream(t *testing.T) {
	frame := func(size uint64, crc uint32, data string) string {
		b := binary.AppendUvarint(nil, size)
		b = binary.BigEndian.AppendUint32(b, crc)
		return string(b) + data
	}
	for name, c := range map[string]struct{ body, want string }{
		"checksum":   {frame(3, 7, "abc"), "checksum mismatch"},
		"cut":        {frame(30, 7, "abc"), "unexpected EOF"},
		"huge":       {frame(1<<40, 7, "abc"), "larger than the allowed"},
		"error text": {"something went wrong in the middle of the answer\n", "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			s := promtest.New(t, promtest.Options{Wrap: func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
					io.WriteString(w, c.body)
				})
			}})
			set, err := newClient(t, s.URL(), "").Read(t.Context(), prom.ReadQuery{MaxTime: 1, Matchers: all("m")})
			require.NoError(t, err)
			require.False(t, set.Next())
			require.ErrorContains(t, set.Err(), c.want)
			require.False(t, set.Next())
			require.NoError(t, set.Close())
		})
	}
}

func TestRead_ReturnsErrorsOfServer(t *testing.T) {
	s := promtest.New(t, promtest.Options{})
	c := newClient(t, s.URL(), "")
	s.SetDown(true)
	_, err := c.Read(t.Context(), prom.ReadQuery{MaxTime: 1, Matchers: all("m")})
	require.EqualError(t, err, "remote read: Prometheus answered 503: Service Unavailable")
	s.SetDown(false)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Read(ctx, prom.ReadQuery{MaxTime: 1, Matchers: all("m")})
	require.True(t, errors.Is(err, context.Canceled), err)
}
