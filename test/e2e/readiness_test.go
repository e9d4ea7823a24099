package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// single starts a receive node without a ring; extra are more flags.
func single(t *testing.T, s *harness.Site, extra ...string) *harness.Process {
	t.Helper()
	p, err := harness.Start(s.Dir, "single", bin.Hindsight, append([]string{
		"receive", "--http-address=" + s.Addr("receive-1"), "--grpc-address=" + s.Addr("receive-1/grpc"),
		"--remote-write.address=" + s.Addr("receive-1/write"), "--tsdb.path=" + s.Path("single"), `--label=receive_replica="1"`,
	}, extra...)...)
	require.NoError(t, err)
	return p
}

// While a node replays its log it is healthy and not ready, names the reason, and asks
// writers to retry later.
func TestReceiveNotReadyDuringReplay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// A read of this segment of the log blocks until the test writes to it.
	wal := s.Path("single", "team-a", "wal")
	require.NoError(t, os.MkdirAll(wal, 0o755))
	segment := filepath.Join(wal, "00000000")
	require.NoError(t, syscall.Mkfifo(segment, 0o600))
	p := single(t, s)
	defer p.Kill()

	get := func(method, url string) (int, string, http.Header) {
		req, err := http.NewRequest(method, url, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error(), nil
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(b), resp.Header
	}
	write := "http://" + s.Addr("receive-1/write") + "/api/v1/receive"
	eventually(t, 20*time.Second, func() error {
		if code, text, _ := get("GET", s.URL("receive-1")+"/-/healthy"); code != 200 {
			return fmt.Errorf("%d %s", code, text)
		}
		if code, text, _ := get("POST", write); code == 0 {
			return fmt.Errorf("the write endpoint is not up: %s", text)
		}
		return nil
	})
	code, text, _ := get("GET", s.URL("receive-1")+"/-/ready")
	require.Equal(t, 503, code)
	require.Contains(t, text, "receive waits for the storage to open")
	code, text, header := get("POST", write)
	require.Equal(t, 503, code)
	require.Contains(t, text, "receive waits for the storage to open")
	require.NotEmpty(t, header.Get("Retry-After"))

	eventually(t, 20*time.Second, func() error {
		// The reader of the segment gets the end of the file.
		if f, err := os.OpenFile(segment, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
			f.Close()
		}
		if code, text, _ := get("GET", s.URL("receive-1")+"/-/ready"); code != 200 {
			return fmt.Errorf("%d %s", code, text)
		}
		return nil
	})
	_, err := harness.Writer{URL: write}.Write(newLedger("ready_total", 1).batch(time.Now().UnixMilli()))
	require.NoError(t, err)
}

// A single node is stopped in order under load, repeatedly: every acknowledged sample
// is there afterwards.
func TestReceiveStoppedUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Endpoints = []string{"receive-1"}
	require.NoError(t, os.WriteFile(s.Path("folder.yml"), []byte("type: FILESYSTEM\nconfig:\n  directory: "+s.Path("bucket")+"\n"), 0o644))
	start := func() *harness.Process {
		p := single(t, s, "--objstore.config-file="+s.Path("folder.yml"))
		require.NoError(t, harness.WaitHTTP(p, s.URL("receive-1")+"/-/ready", time.Minute))
		return p
	}
	p := start()
	defer func() { p.Kill() }()
	r := &ring{Site: s, t: t, ledger: newLedger("stopped_under_load_total", 30), stop: make(chan struct{})}
	r.ledger.retry = true
	for range 3 {
		r.done.Go(func() {
			r.ledger.run(r.stop, 5*time.Millisecond, func() []string { return []string{"http://" + s.Addr("receive-1/write") + "/api/v1/receive"} })
		})
	}
	for range 3 {
		r.progress(1000)
		require.NoError(t, p.Stop(time.Minute))
		p = start()
	}
	r.progress(300)
	r.check()
}
