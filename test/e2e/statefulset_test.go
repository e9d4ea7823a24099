package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

const receiveDomain = "thanos-receive.monitoring.svc.cluster.local"

// statefulSet is the Receive StatefulSet that people run: three pods of one
// headless service with the same flags and the same ports. No flag names the pod.
type statefulSet struct {
	*harness.Pods
	t     *testing.T
	dir   string
	names []string
	procs map[string]*harness.Process
	local map[string]string // forwarded, by POD:PORT
}

func newStatefulSet(t *testing.T) *statefulSet {
	t.Helper()
	s := &statefulSet{
		t: t, dir: t.TempDir(), names: []string{"thanos-receive-0", "thanos-receive-1", "thanos-receive-2"},
		procs: map[string]*harness.Process{}, local: map[string]string{},
	}
	var err error
	s.Pods, err = harness.NewPods(s.dir, receiveDomain, append(s.names, "thanos-query-0")...)
	if errors.Is(err, harness.ErrNoPods) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		for name, p := range s.procs {
			if t.Failed() {
				t.Logf("the end of the log of %s:\n%s", name, p.Tail(15))
			}
			p.Kill()
		}
		require.NoError(t, s.Close())
	})
	var members []string
	for _, n := range s.names {
		members = append(members, fmt.Sprintf("%q", n+"."+receiveDomain+":10901"))
	}
	s.write("hashring.json", `[{"hashring": "default", "endpoints": [`+strings.Join(members, ", ")+`]}]`)
	s.write("objstore.yml", "type: FILESYSTEM\nconfig:\n  directory: "+filepath.Join(s.dir, "bucket")+"\n")
	return s
}

func (s *statefulSet) write(name, content string) {
	require.NoError(s.t, os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o644))
}

// start starts pods with the flags of the manifest and no other; only the directories
// are those of the test.
func (s *statefulSet) start(names ...string) {
	s.t.Helper()
	for _, name := range names {
		p, err := s.Start(name, bin.Hindsight, "receive",
			"--grpc-address=0.0.0.0:10901",
			"--http-address=0.0.0.0:10902",
			"--remote-write.address=0.0.0.0:19291",
			"--receive.replication-factor=3",
			"--receive.hashrings-file="+filepath.Join(s.dir, "hashring.json"),
			"--tsdb.path="+filepath.Join(s.dir, name, "receive"),
			"--tsdb.retention=6h",
			"--objstore.config-file="+filepath.Join(s.dir, "objstore.yml"))
		require.NoError(s.t, err)
		s.procs[name] = p
	}
	for _, name := range names {
		require.NoError(s.t, harness.WaitHTTP(s.procs[name], s.url(name, 10902)+"/-/ready", time.Minute))
	}
}

// url returns the URL of a port of a pod for the test.
func (s *statefulSet) url(name string, port int) string {
	s.t.Helper()
	key := fmt.Sprintf("%s:%d", s.IP(name), port)
	if s.local[key] == "" {
		var err error
		s.local[key], err = s.Forward(key)
		require.NoError(s.t, err)
	}
	return "http://" + s.local[key]
}

func (s *statefulSet) json(name, path string, v any) {
	s.t.Helper()
	resp, err := http.Get(s.url(name, 10902) + path)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	require.NoError(s.t, json.NewDecoder(resp.Body).Decode(v))
}

// series returns the number of series that a pod stores.
func (s *statefulSet) series(name string) (n int) {
	var tenants []struct {
		Tenant string
		Series int
	}
	s.json(name, "/api/v1/receive/tenants", &tenants)
	for _, x := range tenants {
		n += x.Series
	}
	return n
}

func (s *statefulSet) startQuery() harness.API {
	args := []string{"query"}
	for _, n := range s.names {
		args = append(args, "--endpoint="+n+"."+receiveDomain+":10901")
	}
	p, err := s.Start("thanos-query-0", bin.Hindsight, args...)
	require.NoError(s.t, err)
	s.procs["thanos-query-0"] = p
	require.NoError(s.t, harness.WaitHTTP(p, s.url("thanos-query-0", 10902)+"/-/ready", time.Minute))
	return harness.API{Base: s.url("thanos-query-0", 10902)}
}

// The manifest works as it is: each pod finds itself by its host name, external
// labels differ, each write is stored three times, and writes and queries continue
// while a pod is killed.
func TestReceiveStatefulSet(t *testing.T) {
	t.Parallel()
	s := newStatefulSet(t)
	s.start(s.names...)
	for _, name := range s.names {
		var ring struct {
			Self, Ready string
			Members     []struct{ Address, State string }
		}
		s.json(name, "/api/v1/receive/ring", &ring)
		require.Equal(t, name+"."+receiveDomain+":10901", ring.Self)
		require.Equal(t, "yes", ring.Ready)
		require.Len(t, ring.Members, 3)
		for _, m := range ring.Members {
			require.Equal(t, m.Address == ring.Self, m.State == "self", m)
		}
	}

	l := newLedger("statefulset_total", 40)
	l.retry = true
	stop, done := make(chan struct{}), make(chan struct{})
	var urls []string
	for _, name := range s.names {
		urls = append(urls, s.url(name, 19291)+"/api/v1/receive")
		batch := l.batch(time.Now().UnixMilli())
		_, err := harness.Writer{URL: urls[len(urls)-1]}.Write(batch)
		require.NoError(t, err, "every pod takes writes")
		l.ack(batch)
	}
	urls = []string{urls[0], urls[2]}
	go func() { defer close(done); l.run(stop, 20*time.Millisecond, func() []string { return urls }) }()
	progress := func(n int) {
		t.Helper()
		from := l.count()
		eventually(t, time.Minute, func() error {
			if l.count()-from < n {
				return fmt.Errorf("%d more samples; %s", l.count()-from, l.lastErrors())
			}
			return nil
		})
	}
	storedByAll := func() error {
		for _, name := range s.names {
			if n := s.series(name); n != l.series {
				return fmt.Errorf("%s stores %d series of %d", name, n, l.series)
			}
		}
		return nil
	}
	progress(1000)
	eventually(t, 30*time.Second, storedByAll)
	s.procs["thanos-receive-1"].Kill()
	progress(2000)
	// It restarts with another address, and gets its hints.
	require.NoError(t, s.Move("thanos-receive-1", "10.77.0.99"))
	s.start("thanos-receive-1")
	progress(1000)
	eventually(t, 30*time.Second, func() error {
		var ring struct {
			Members []struct {
				Address, State string
				HintBytes      int64 `json:"hint_bytes"`
			}
		}
		s.json("thanos-receive-0", "/api/v1/receive/ring", &ring)
		if m := ring.Members[1]; m.State != "ok" || m.HintBytes > 0 {
			return fmt.Errorf("the pod that came back is %+v", m)
		}
		return nil
	})
	close(stop)
	<-done
	require.Empty(t, l.failed)
	eventually(t, 30*time.Second, storedByAll)

	api := s.startQuery()
	eventually(t, time.Minute, func() error { return l.check(api) })
	for _, name := range s.names {
		require.NoError(t, s.procs[name].Stop(time.Minute))
		require.Contains(t, s.procs[name].Tail(3), "stopped")
	}
	s.uploaded()
}

// uploaded checks that each pod has shipped its data under its own name.
func (s *statefulSet) uploaded() {
	s.t.Helper()
	blocks := map[string]int{}
	require.NoError(s.t, filepath.WalkDir(filepath.Join(s.dir, "bucket"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "meta.json" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var meta struct {
			Thanos struct{ Labels map[string]string }
		}
		if err := json.Unmarshal(b, &meta); err != nil {
			return err
		}
		require.Equal(s.t, "default-tenant", meta.Thanos.Labels["tenant_id"])
		blocks[meta.Thanos.Labels["receive_replica"]]++
		return nil
	}))
	require.Len(s.t, blocks, 3, "external labels differ: %v", blocks)
	for _, name := range s.names {
		require.Contains(s.t, blocks, name)
	}
}
