package e2e

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

const deletionBlocks = `
block a range=0s..2h labels={cluster="eu"}
  secret{user="bob"}  0s..2h/1m:1+1
  up{job="x"}         0s..2h/1m:1+1
block b range=2h..4h labels={cluster="eu"}
  secret{user="bob"}  2h..4h/1m:1+1
  up{job="x"}         2h..4h/1m:1+1
`

// TestDeleteSeries deletes a series over HTTP while a querier answers: first it is hidden,
// in queries and in /federate, then no object of the bucket has it, though the compactor
// is killed while it rewrites.
func TestDeleteSeries(t *testing.T) {
	dir, host := t.TempDir(), harness.Host()
	config := "type: FILESYSTEM\nconfig:\n  directory: " + filepath.Join(dir, "bucket") + "\n"
	bkt, err := provider.Open(t.Context(), []byte(config), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, bkt.Close()) })
	blocktest.Fill(t, bkt, deletionBlocks)
	ports, err := harness.Ports(host, 6)
	require.NoError(t, err)
	start := func(name string, http, grpc int, args ...string) *harness.Process {
		args = append([]string{name, "--http-address=" + ports[http]}, args...)
		if grpc >= 0 {
			args = append(args, "--grpc-address="+ports[grpc])
		}
		p, err := harness.Start(dir, name, bin.Hindsight, args...)
		require.NoError(t, err)
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(p.Tail(15))
			}
			p.Kill()
		})
		require.NoError(t, harness.WaitHTTP(p, "http://"+ports[http]+"/-/ready", 20*time.Second))
		return p
	}
	start("store", 0, 1, "--objstore.config="+config, "--data-dir="+dir+"/store", "--sync-block-duration=1s", "--deletions.poll-interval=1s", "--store.disk-cache-size=4MB")
	start("query", 2, 3, "--endpoint="+ports[1], "--store.sd-dns-interval=1s")
	querier := "http://" + ports[2]
	find := func(path string, form url.Values) string {
		r, err := http.Get(querier + path + "?" + form.Encode())
		require.NoError(t, err)
		defer func() { require.NoError(t, r.Body.Close()) }()
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return string(b)
	}
	query := func() string {
		return find("/api/v1/query_range", url.Values{"query": {`{__name__=~"secret|up"}`}, "start": {"60"}, "end": {"14000"}, "step": {"60"}})
	}
	require.Eventually(t, func() bool { return strings.Contains(query(), "bob") }, 20*time.Second, 200*time.Millisecond)

	require.True(t, hasBob(t, dir+"/store"), "the gateway caches the pages")
	compactor := []string{"--wait", "--wait-interval=1s", "--objstore.config=" + config, "--data-dir=" + dir + "/compact", "--consistency-delay=0s", "--delete-delay=0s"}
	c := start("compact", 4, -1, compactor...)
	r, err := http.PostForm("http://"+ports[4]+"/api/v1/admin/tsdb/delete_series", url.Values{"match[]": {`{user="bob"}`}, "delay": {"3s"}})
	require.NoError(t, err)
	var made struct{ Data struct{ ID string } }
	require.NoError(t, json.NewDecoder(r.Body).Decode(&made))
	require.NoError(t, r.Body.Close())
	require.NotEmpty(t, made.Data.ID)
	require.Eventually(t, func() bool { return !strings.Contains(query(), "bob") }, 20*time.Second, 100*time.Millisecond)
	// The compactor may have begun on a slow host, and have removed a block that the gateway lists.
	require.Eventually(t, func() bool { return strings.Contains(query(), `"up"`) }, 20*time.Second, 100*time.Millisecond)
	require.NotContains(t, find("/federate", url.Values{"match[]": {`{__name__=~"secret|up"}`}}), "bob")
	require.NotContains(t, find("/api/v1/series", url.Values{"match[]": {`{__name__=~"secret|up"}`}, "start": {"0"}, "end": {"14400"}}), "bob")

	// Killed as soon as it works on a block.
	require.Eventually(t, func() bool {
		found, _ := filepath.Glob(dir + "/compact/compact/rewrite-*")
		return len(found) > 0 || !hasBob(t, dir+"/bucket")
	}, 30*time.Second, time.Millisecond)
	c.Kill()
	start("compact", 5, -1, compactor...)
	require.Eventually(t, func() bool { return !hasBob(t, dir+"/bucket") }, 30*time.Second, 200*time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := os.Stat(dir + "/bucket/hindsight/deletions/" + made.Data.ID + "/done.json")
		return err == nil
	}, 20*time.Second, 200*time.Millisecond)
	require.Eventually(t, func() bool { return strings.Contains(query(), `"up"`) }, 20*time.Second, 200*time.Millisecond)
	require.NotContains(t, query(), "bob")

	// The gateway has no byte of it on disk either, and says so.
	status := func() string {
		out, err := exec.Command(bin.Hindsight, "tools", "bucket", "delete-series", "--objstore.config="+config, "--status="+made.Data.ID).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	require.Eventually(t, func() bool { return strings.Contains(status(), "in the caches of 1 store gateways") }, 20*time.Second, 200*time.Millisecond, "%s", status())
	require.False(t, hasBob(t, dir+"/store"))
}

// hasBob says whether any file has the value of the deleted series, except for the requests,
// which name it.
func hasBob(t *testing.T, dir string) (found bool) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) || err == nil && (d.IsDir() || strings.Contains(path, "/deletions/")) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		found = found || strings.Contains(string(b), "bob")
		return nil
	}))
	return found
}
