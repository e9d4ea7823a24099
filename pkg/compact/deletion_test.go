package compact_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/deletion"
)

// A merged block that no window takes any more, with 5m data of it, and fresh blocks.
const withSecrets = `
block old range=0s..2d labels={cluster="eu"} source=compactor level=3
  secret{user="bob"}   0s..2d/10m:1+1
  secret{user="eve"}   0s..2d/10m:1+1
  up{job="x"}          0s..2d/10m:1+1
block fresh range=48h..50h labels={cluster="eu"} source=compactor
  secret{user="bob"}   48h..50h/1m:1+1
  up{job="x"}          48h..50h/1m:h1+1
block only range=50h..52h labels={cluster="eu"} source=compactor
  secret{user="bob"}   50h..52h/1m:1+1
block other range=0s..2h labels={cluster="us"} source=compactor
  secret{user="bob"}   0s..2h/1m:1+1
`

// contains says whether any object of any block, or of those that are not marked, has
// the text.
func contains(t *testing.T, b bucket.Bucket, text, cluster string, marked bool) bool {
	t.Helper()
	v, err := blocklist.NewPoller(b, blocklist.Config{}).Poll(t.Context())
	require.NoError(t, err)
	for id, m := range v.Metas {
		if m.Thanos.Labels["cluster"] != cluster || v.Deletion[id] != nil && !marked {
			continue
		}
		index, err := bucket.ReadAll(t.Context(), b, block.Path(id, block.IndexFile), 1<<30)
		require.NoError(t, err)
		if bytes.Contains(index, []byte(text)) {
			return true
		}
	}
	return false
}

func request(t *testing.T, b bucket.Bucket, o deletion.Options) *deletion.Compiled {
	t.Helper()
	o.MinTime, o.MaxTime, o.Keep = deletion.Earliest, deletion.Latest, time.Hour
	c, err := deletion.New(o, time.Now())
	require.NoError(t, err)
	require.NoError(t, deletion.Put(t.Context(), b, c))
	return c
}

func stateOf(t *testing.T, b bucket.Bucket, c *deletion.Compiled) deletion.State {
	t.Helper()
	e, err := deletion.Get(t.Context(), b, c.ID)
	require.NoError(t, err)
	return e.StateAt(time.Now())
}

// TestRunOnce_RemovesDeletedSeries deletes a series of one cluster from raw and
// downsampled blocks, also from one that would never be merged again.
func TestRunOnce_RemovesDeletedSeries(t *testing.T) {
	b := blocktest.Bucket(t, withSecrets)
	args := []string{"--delete-delay=1h"}
	require.NoError(t, newCompactor(t, b, args...).RunOnce(t.Context())) // downsamples
	require.True(t, contains(t, b, "bob", "eu", false))

	pending := request(t, b, deletion.Options{Selectors: []string{`up`}, Delay: time.Hour})
	c := request(t, b, deletion.Options{Selectors: []string{`{user="bob",cluster="eu"}`}})
	require.NoError(t, newCompactor(t, b, args...).RunOnce(t.Context()))
	require.False(t, contains(t, b, "bob", "eu", false))
	require.True(t, contains(t, b, "eve", "eu", false))
	require.True(t, contains(t, b, "up", "eu", false))
	require.True(t, contains(t, b, "bob", "us", false), "another cluster")
	require.Equal(t, deletion.Applying, stateOf(t, b, c), "copies wait for their deletion")
	require.Equal(t, deletion.Pending, stateOf(t, b, pending))
	v, err := blocklist.NewPoller(b, blocklist.Config{}).Poll(t.Context())
	require.NoError(t, err)
	resolutions := map[int64]int{}
	for id, m := range v.Metas {
		if m.RewriteCount() > 0 && v.Deletion[id] == nil {
			resolutions[m.Resolution()]++
			require.Contains(t, string(m.Thanos.Rewrites), c.ID.String())
		}
	}
	require.Equal(t, 1, resolutions[block.Resolution5m], "downsampled data was rewritten, not made again")
	require.Equal(t, 2, resolutions[0])

	// Without the delay nothing is left, and a second pass says so.
	last := newCompactor(t, b, "--delete-delay=0s")
	require.NoError(t, last.RunOnce(t.Context()))
	require.False(t, contains(t, b, "bob", "eu", true))
	require.NoError(t, last.RunOnce(t.Context()))
	require.Equal(t, deletion.Done, stateOf(t, b, c))

	// A copy that is uploaded later, as by a sidecar, goes again.
	blocktest.Fill(t, b, withSecrets)
	require.NoError(t, last.RunOnce(t.Context()))
	require.NoError(t, last.RunOnce(t.Context()))
	require.False(t, contains(t, b, "bob", "eu", true))
}

// TestRunOnce_KilledRewriteIsRepeated fails the n-th write of a pass, as if the process
// was killed there, and continues with a new compactor.
func TestRunOnce_KilledRewriteIsRepeated(t *testing.T) {
	killed := errors.New("killed")
	for n := 1; ; n += 3 {
		mem := blocktest.Bucket(t, withSecrets)
		request(t, mem, deletion.Options{Selectors: []string{`{user="bob"}`}})
		writes, dead := 0, false
		f := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "upload" || op.Kind == "delete" {
				if writes++; writes == n {
					dead = true
				}
			}
			if dead {
				return buckettest.Fault{Err: killed}
			}
			return buckettest.Fault{}
		})
		args := []string{"--delete-delay=0s", "--downsampling.disable", "--no-compact.index-header-bundles"}
		dir := t.TempDir() // with it the leases of the last run need no waiting
		_ = compactorIn(t, dir, f, args...).RunOnce(t.Context())
		c := compactorIn(t, dir, mem, args...)
		require.NoError(t, c.RunOnce(t.Context()))
		require.NoError(t, c.RunOnce(t.Context()))
		require.False(t, contains(t, mem, "bob", "eu", true), "after %d writes", n)
		require.True(t, contains(t, mem, "eve", "eu", false))
		require.True(t, contains(t, mem, "up", "eu", false))
		if !dead {
			require.Greater(t, n, 10)
			return
		}
	}
}

func TestRunOnce_RetentionRulesRemoveSeries(t *testing.T) {
	const rules = `
rules:
- name: users
  match: '{user!=""}'
  raw: 1d
  5m: 1d
  1h: 1d
- name: legal
  match: '{user="eve"}'
  raw: 1d
`
	b := blocktest.Bucket(t, withSecrets)
	var out bytes.Buffer
	dry, err := compact.New(config(t, "--dry-run", "--retention.config="+rules), compact.Deps{Bucket: b, Out: &out})
	require.NoError(t, err)
	require.NoError(t, dry.Run(t.Context()))
	require.Contains(t, out.String(), "2 of 3 series out of retention by users, about ")
	require.NoError(t, newCompactor(t, b, "--delete-delay=0s", "--retention.config="+rules).RunOnce(t.Context()))
	require.False(t, contains(t, b, "bob", "eu", true))
	require.False(t, contains(t, b, "eve", "eu", true))
	require.True(t, contains(t, b, "up", "eu", false))
}

func TestNew_RefusesRetentionRules(t *testing.T) {
	for text, want := range map[string]string{
		"rules: [{match: up}]":                                                    "sets none of raw, 5m and 1h",
		"rules: [{raw: 1d}]":                                                      "neither tenant nor match",
		"rules: [{name: x, match: 'up{', raw: 1d}]":                               `"x": match is not a series selector`,
		"rules: [{match: up, raw: later}]":                                        `"rule 1": raw: `,
		"rules: [{match: up, raw: 1d, week: 1d}]":                                 "week",
		"rules: [{name: x, match: up, raw: 1d}, {name: x, match: up, raw: 2d}]":   "name of its own",
		"rules: [{match: '{a=~\"" + strings.Repeat("x", 5000) + "\"}', raw: 1d}]": "longer than",
	} {
		app := kingpin.New("compact", "")
		var cfg compact.Config
		cfg.RegisterFlags(app)
		_, err := app.Parse([]string{"--retention.config=" + text})
		require.NoError(t, err)
		require.ErrorContains(t, cfg.Validate(), want, text)
	}
}

func TestReload_InvalidRulesKeepTheLastOnes(t *testing.T) {
	path := t.TempDir() + "/retention.yaml"
	writeFile(t, path, "rules: [{match: secret, raw: 1d, 5m: 1d, 1h: 1d}]")
	b := blocktest.Bucket(t, withSecrets)
	c, err := compact.New(config(t, "--delete-delay=0s", "--retention.config-file="+path),
		compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	writeFile(t, path, "rules: [{")
	require.Error(t, c.Reload(t.Context()))
	require.NoError(t, c.RunOnce(t.Context()))
	require.False(t, contains(t, b, "bob", "eu", true))
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}
