package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// program is one of the two programs under test.
type program string

const (
	hindsight program = "hindsight"
	thanos    program = "thanos"
)

// programs returns both; tests run the same steps with each.
func programs() []program { return []program{hindsight, thanos} }

// other returns the program that p is not.
func (p program) other() program {
	if p == thanos {
		return hindsight
	}
	return thanos
}

// path returns the executable.
func (p program) path() string {
	if p == thanos {
		return thanosBin
	}
	return bin.Hindsight
}

// node is a running process with its listeners.
type node struct {
	*harness.Process
	program program
	http    string // host:port, as all below
	grpc    string
	write   string
	capnp   string
	args    []string // without those of the addresses
}

func (n *node) url() string { return "http://" + n.http }

func (n *node) api() harness.API { return harness.API{Base: n.url()} }

// site is a directory, a loopback address and the processes of one test.
type site struct {
	*testing.T
	dir, host string
	running   []*harness.Process
}

// newSite makes a site without processes. At the end of the test all must stop in order; a
// failed test prints the end of their logs.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, dir: t.TempDir(), host: harness.Host()}
	t.Cleanup(func() {
		for i := len(s.running) - 1; i >= 0; i-- {
			p := s.running[i]
			if t.Failed() {
				t.Logf("the end of the log of %s:\n%s", p.Name, p.Tail(12))
				p.Kill()
			} else if p.Running() {
				if err := p.Stop(30 * time.Second); err != nil {
					t.Error(err)
				}
			}
		}
	})
	return s
}

// path returns a path below the directory of the site.
func (s *site) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// file writes a file and returns its path.
func (s *site) file(name, text string) string {
	s.Helper()
	// Replaced as a whole, as a ConfigMap is.
	require.NoError(s, os.WriteFile(s.path(name+".new"), []byte(text), 0o644))
	require.NoError(s, os.Rename(s.path(name+".new"), s.path(name)))
	return s.path(name)
}

// mkdir makes a directory of the site and returns its path.
func (s *site) mkdir(name string) string {
	s.Helper()
	require.NoError(s, os.MkdirAll(s.path(name), 0o755))
	return s.path(name)
}

// bucket returns the flag of a bucket that is a directory of the site.
func (s *site) bucket(name string) string {
	s.Helper()
	dir := s.mkdir(name)
	return "--objstore.config-file=" + s.file(name+".yml", fmt.Sprintf("type: FILESYSTEM\nconfig: {directory: %q}\n", dir))
}

// address reserves the listeners of a node. A node that is started again in the place of
// another has its addresses.
func (s *site) address() *node {
	s.Helper()
	p, err := harness.Ports(s.host, 4)
	require.NoError(s, err)
	return &node{http: p[0], grpc: p[1], write: p[2], capnp: p[3]}
}

// run starts a role of a program on new addresses and waits until it is ready.
func (s *site) run(p program, role, name string, args ...string) *node {
	s.Helper()
	return s.runAt(s.address(), p, role, name, args...)
}

// runAt starts a role on the addresses of at and waits until it is ready.
func (s *site) runAt(at *node, p program, role, name string, args ...string) *node {
	s.Helper()
	n := s.launch(at, p, role, name, args...)
	require.NoError(s, harness.WaitHTTP(n.Process, n.url()+"/-/ready", time.Minute))
	return n
}

// launch starts a role on the addresses of at.
func (s *site) launch(at *node, p program, role, name string, args ...string) *node {
	s.Helper()
	n := *at
	n.program, n.args = p, args
	command := append([]string{role, "--http-address=" + n.http}, args...)
	if role != "compact" && role != "query-frontend" {
		command = append(command, "--grpc-address="+n.grpc)
	}
	if role == "receive" {
		command = append(command, "--remote-write.address="+n.write, "--receive.capnproto-address="+n.capnp)
	}
	n.Process = s.start(name, p.path(), command...)
	return &n
}

// start starts a process that ends with the test.
func (s *site) start(name, path string, args ...string) *harness.Process {
	s.Helper()
	p, err := harness.Start(s.dir, name, path, args...)
	require.NoError(s, err)
	s.running = append(s.running, p)
	return p
}

// stop ends a process in order.
func (s *site) stop(n *node) {
	s.Helper()
	require.NoError(s, n.Stop(30*time.Second))
}

// call runs a command to its end and returns its standard output.
func (s *site) call(p program, args ...string) string {
	s.Helper()
	out, err := s.try(p, args...)
	require.NoError(s, err, "%s %s", p, strings.Join(args, " "))
	return out
}

// try runs a command to its end.
func (s *site) try(p program, args ...string) (string, error) {
	cmd := exec.Command(p.path(), args...)
	cmd.Dir = s.dir
	var out, logged bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &logged
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, tail(logged.String(), 1500))
	}
	return out.String(), nil
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// prometheus starts a Prometheus whose configuration is the text; its blocks are of two hours
// and not compacted.
func (s *site) prometheus(name, config string, args ...string) *node {
	s.Helper()
	n := s.address()
	args = append([]string{
		"--config.file=" + s.file(name+".yml", config), "--storage.tsdb.path=" + s.path(name),
		"--web.listen-address=" + n.http, "--log.level=warn", "--web.enable-lifecycle",
		"--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
		"--enable-feature=exemplar-storage,metadata-wal-records",
	}, args...)
	n.Process = s.start(name, bin.Prometheus, args...)
	require.NoError(s, harness.WaitHTTP(n.Process, n.url()+"/-/ready", time.Minute))
	return n
}

// eventually calls f until it returns nil.
func eventually(t testing.TB, within time.Duration, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	require.NoError(t, err, "after %s", within)
}

// querier starts a querier over the stores and waits until it has them all.
func (s *site) querier(p program, name string, stores []*node, args ...string) *node {
	s.Helper()
	for _, n := range stores {
		args = append(args, "--endpoint="+n.grpc)
	}
	q := s.run(p, "query", name, append([]string{"--query.replica-label=replica", "--store.response-timeout=10s"}, args...)...)
	eventually(s, 20*time.Second, func() error { return q.has(len(stores)) })
	return q
}

// has returns an error unless the querier has n stores without errors.
func (n *node) has(stores int) error {
	var kinds map[string][]struct {
		Name      string
		LastError any
		LabelSets []map[string]string
	}
	if err := n.api().JSON("/api/v1/stores", nil, &kinds); err != nil {
		return err
	}
	var up int
	for _, list := range kinds {
		for _, one := range list {
			if one.LastError == nil {
				up++
			}
		}
	}
	if up != stores {
		return fmt.Errorf("%s has %d of %d stores: %v", n.Name, up, stores, kinds)
	}
	return nil
}
