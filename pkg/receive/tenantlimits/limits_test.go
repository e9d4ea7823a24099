package tenantlimits

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
)

func TestParse(t *testing.T) {
	c, err := Parse([]byte(`
write:
  global:
    max_concurrency: 7
    meta_monitoring_url: http://x
  default:
    request: {size_bytes_limit: 1000, series_limit: 10}
    head_series_limit: 100
  tenants:
    big:
      request: {series_limit: 0, samples_limit: 5}
      head_series_limit: 0
      samples_per_second_limit: 50
      label_names_limit: 3
`))
	require.NoError(t, err)
	require.Equal(t, 7, c.MaxConcurrency)
	require.Equal(t, 10_000, c.MaxTenants)
	require.Equal(t, Tenant{
		SizeBytes: 1000, Series: 10, ActiveSeries: 100,
		LabelNames: 200, LabelNameLength: 1024, LabelValueLength: 64 << 10,
	}, c.For("anyone"))
	require.Equal(t, Tenant{
		SizeBytes: 1000, Samples: 5, SamplesPerSecond: 50, Burst: 50,
		LabelNames: 3, LabelNameLength: 1024, LabelValueLength: 64 << 10,
	}, c.For("big"))

	_, err = Parse([]byte("write:\n  globall: {}\n"))
	require.ErrorContains(t, err, "line 2")
	_, err = Parse([]byte("write: {tenants: {a/b: {}}}"))
	require.ErrorContains(t, err, "separator")
	c, err = Parse(nil)
	require.NoError(t, err)
	require.Zero(t, c.For("x").Series)
}

func TestParseRetention(t *testing.T) {
	c, err := Parse([]byte(`
write:
  default:
    retention: 36h
  tenants:
    long: {retention: 0}
    short: {retention: 1d12h}
    same: {head_series_limit: 5}
`))
	require.NoError(t, err)
	require.Equal(t, 36*time.Hour, *c.For("anyone").Retention)
	require.Equal(t, time.Duration(0), *c.For("long").Retention, "0 is for ever")
	require.Equal(t, 36*time.Hour, *c.For("short").Retention)
	require.Equal(t, 36*time.Hour, *c.For("same").Retention)
	c, err = Parse([]byte("write: {tenants: {a: {retention: 2h}}}"))
	require.NoError(t, err)
	require.Nil(t, c.For("b").Retention, "the node decides")

	for _, bad := range []string{"soon", "-2h", "[1h]", "2"} {
		_, err = Parse([]byte("write:\n  default:\n    retention: " + bad + "\n"))
		require.ErrorContains(t, err, "line 3: ", bad)
		require.ErrorContains(t, err, "is not a duration", bad)
	}
}

func TestParseMeta(t *testing.T) {
	c, err := Parse([]byte(`
write:
  global:
    meta_monitoring_url: https://query.example/prefix
    meta_monitoring_limit_query: sum by (tenant) (x)
    meta_monitoring_http_client:
      basic_auth: {username: u, password: p}
      transport_config: {max_idle_conns: 3}
`))
	require.NoError(t, err)
	require.Equal(t, "https://query.example/prefix", c.Meta.URL.String())
	require.Equal(t, "sum by (tenant) (x)", c.Meta.Query)
	require.Equal(t, "u", c.Meta.Client.BasicAuth.Username)
	require.Equal(t, 3, c.Meta.Client.Transport.MaxIdleConns)
	require.Equal(t, httpclient.Default().Transport.DialerTimeout, c.Meta.Client.Transport.DialerTimeout, "what is absent is as usual")
	require.False(t, c.BoundsSeries())

	c, err = Parse([]byte("write: {global: {meta_monitoring_url: 'http://x:1'}, tenants: {a: {head_series_limit: 5}}}"))
	require.NoError(t, err)
	require.Equal(t, defaultMetaQuery, c.Meta.Query)
	require.True(t, c.BoundsSeries())
	c, err = Parse([]byte("write: {default: {head_series_limit: 5}}"))
	require.NoError(t, err)
	require.Nil(t, c.Meta)
	require.True(t, c.BoundsSeries())

	for bad, want := range map[string]string{
		"meta_monitoring_url: query:10902":                                     "not a URL such as",
		"meta_monitoring_url: /only/a/path":                                    "not a URL such as",
		"meta_monitoring_url: 'http://%zz'":                                    "meta_monitoring_url: ",
		"meta_monitoring_http_client: {bearer: x}":                             "line 3: unknown key \"bearer\"",
		"meta_monitoring_http_client: {bearer_token: x, bearer_token_file: y}": "exclude each other",
	} {
		_, err = Parse([]byte("write:\n  global:\n    " + bad + "\n"))
		require.ErrorContains(t, err, want, bad)
	}
}

func TestRequest(t *testing.T) {
	l := New(&Config{defaults: Tenant{Series: 10, Samples: 20}})
	require.NoError(t, l.Request("a", 10, 20))
	require.EqualError(t, l.Request("a", 11, 20), "tenant a is above its limit of 10 series in a request (request.series_limit): this one has 11")
	require.ErrorContains(t, l.Request("a", 10, 21), "20 samples in a request")
}

func TestRate(t *testing.T) {
	l := New(&Config{defaults: Tenant{SamplesPerSecond: 100, Burst: 200}})
	now := time.Unix(1000, 0)
	require.NoError(t, l.Rate("a", 150, now))
	err := l.Rate("a", 100, now)
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, 500*time.Millisecond, e.RetryAfter)
	require.NoError(t, l.Rate("b", 100, now), "another tenant has its own")
	require.NoError(t, l.Rate("a", 100, now.Add(500*time.Millisecond)))
	require.NoError(t, l.Rate("a", 1000, now.Add(10*time.Second)), "more than the burst passes when nothing is owed")
	require.Error(t, l.Rate("a", 1, now.Add(11*time.Second)))
	require.NoError(t, l.Rate("a", 1, now.Add(30*time.Second)))
}

func TestRate_RemovesFullBuckets(t *testing.T) {
	l := New(&Config{defaults: Tenant{SamplesPerSecond: 1, Burst: 10}})
	now := time.Unix(1000, 0)
	require.NoError(t, l.Rate("owes", 10_000_000, now))
	for i := range 100_000 {
		require.NoError(t, l.Rate(fmt.Sprint("t", i), 5, now.Add(time.Duration(i)*time.Second)))
	}
	require.Less(t, len(l.buckets), 2*minSweep)
	require.Error(t, l.Rate("owes", 1, now.Add(100_000*time.Second)), "a tenant that owes stays")
}

func TestEnter_BoundsConcurrentRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(&Config{MaxConcurrency: 2})
		var (
			wg            sync.WaitGroup
			now, most, ok atomic.Int32
		)
		for i := range 50 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%5 == 0 {
					cancel()
				}
				done, err := l.Enter(ctx)
				if err != nil {
					return
				}
				defer done()
				n := now.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				ok.Add(1)
				time.Sleep(time.Millisecond)
				now.Add(-1)
			})
		}
		wg.Wait()
		require.LessOrEqual(t, most.Load(), int32(2))
		require.GreaterOrEqual(t, ok.Load(), int32(40))
		require.Zero(t, l.running)
		l.Set(&Config{})
		for range 10 {
			_, err := l.Enter(t.Context())
			require.NoError(t, err)
		}
	})
}

// The example in the documentation has every key.
func TestDocumentedExample(t *testing.T) {
	page, err := os.ReadFile("../../../docs/receive.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(page), "```yaml\nwrite:")
	require.True(t, ok)
	example, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	example = "write:" + example
	c, err := Parse([]byte(example))
	require.NoError(t, err)
	require.Equal(t, 30, c.MaxConcurrency)
	require.Equal(t, defaultMetaQuery, c.Meta.Query)
	day := 24 * time.Hour
	fifteen, two := 15*day, 2*day
	want := Tenant{
		SizeBytes: 10_000_000, Series: 10_000, Samples: 50_000, ActiveSeries: 1_000_000, SamplesPerSecond: 100_000, Burst: 500_000,
		LabelNames: 60, LabelNameLength: 256, LabelValueLength: 4096, Retention: &fifteen,
	}
	require.Equal(t, want, c.For("anyone"))
	want.ActiveSeries, want.Retention = 5_000_000, &two
	require.Equal(t, want, c.For("team-a"))

	keys := regexp.MustCompile("yaml:\"([a-z_]+)\"")
	source, err := os.ReadFile("config.go")
	require.NoError(t, err)
	for _, key := range keys.FindAllStringSubmatch(string(source), -1) {
		require.Contains(t, example, key[1]+":", "not in the example")
	}
}
