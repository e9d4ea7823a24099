package harness

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Site runs the deployment of the README as real processes: the HA pair and the
// other cluster with their sidecars, the edge with its receive nodes, the bucket,
// store gateway, compactor and querier. Its configurations are the files of
// examples/demo.
type Site struct {
	Dir string
	Bin Binaries
	// Extra are more flags for a process, by its name.
	Extra map[string][]string
	// Endpoints are the stores that the querier queries.
	Endpoints []string
	// Say, when not nil, gets one line about each start.
	Say io.Writer

	addr  map[string]string // by the name of the listener
	procs map[string]*Process
	order []string
}

// The credentials of the S3 server that Site starts.
const (
	S3AccessKey = "hindsight-demo"
	S3SecretKey = "hindsight-demo-secret"
)

// demoAddresses are the addresses that the files of examples/demo name.
func demoAddresses() map[string]string {
	return map[string]string{
		"node": "127.0.0.1:9100", "s3": "127.0.0.1:9000",
		"prometheus-eu-a": "127.0.0.1:9091", "prometheus-eu-b": "127.0.0.1:9092",
		"prometheus-us-a": "127.0.0.1:9093", "prometheus-edge": "127.0.0.1:9094",
		"sidecar-eu-a/grpc": "127.0.0.1:10911", "sidecar-eu-a": "127.0.0.1:10912",
		"sidecar-eu-b/grpc": "127.0.0.1:10921", "sidecar-eu-b": "127.0.0.1:10922",
		"sidecar-us-a/grpc": "127.0.0.1:10931", "sidecar-us-a": "127.0.0.1:10932",
		"receive-1/grpc": "127.0.0.1:10941", "receive-1": "127.0.0.1:10942", "receive-1/write": "127.0.0.1:19291",
		"receive-2/grpc": "127.0.0.1:10951", "receive-2": "127.0.0.1:10952", "receive-2/write": "127.0.0.1:19292",
		"receive-3/grpc": "127.0.0.1:10961", "receive-3": "127.0.0.1:10962", "receive-3/write": "127.0.0.1:19293",
		"store/grpc": "127.0.0.1:10971", "store": "127.0.0.1:10972",
		"compact":    "127.0.0.1:10982",
		"query/grpc": "127.0.0.1:10991", "query": "127.0.0.1:10992",
	}
}

// moreReceivers are nodes that only tests add to the ring.
func moreReceivers() map[string]string {
	out := map[string]string{}
	for _, n := range []string{"4", "5"} {
		for _, l := range []string{"", "/grpc", "/write"} {
			out["receive-"+n+l] = "unused by the demo: receive-" + n + l
		}
	}
	return out
}

// SetRing writes a hashring of the named receive nodes; those that run load it.
func (s *Site) SetRing(names ...string) error {
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `{"address": %q}`, s.Addr(name+"/grpc"))
	}
	text := fmt.Sprintf(`[{"hashring": "default", "algorithm": "ketama", "endpoints": [%s]}]`, b.String())
	// Replaced as a whole, as a ConfigMap is.
	tmp := s.Path("hashring.json.new")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the hashring: %w", err)
	}
	return os.Rename(tmp, s.Path("hashring.json"))
}

// NewSite prepares a site in dir. With an empty host it uses the files of
// examples/demo as they are; otherwise it uses copies whose addresses are
// replaced by free ports of host.
func NewSite(dir, host string, bin Binaries) (*Site, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	s := &Site{Dir: dir, Bin: bin, Extra: map[string][]string{}, addr: demoAddresses(), procs: map[string]*Process{}}
	s.Endpoints = []string{"sidecar-eu-a", "sidecar-eu-b", "sidecar-us-a", "receive-1", "receive-2", "receive-3", "store"}
	var replace []string
	if host != "" {
		maps.Copy(s.addr, moreReceivers())
		ports, err := Ports(host, len(s.addr))
		if err != nil {
			return nil, err
		}
		for i, name := range slices.Sorted(maps.Keys(s.addr)) {
			replace = append(replace, s.addr[name], ports[i])
			s.addr[name] = ports[i]
		}
	}
	src := filepath.Join(root, "examples/demo")
	files, err := os.ReadDir(src)
	if err != nil {
		return nil, fmt.Errorf("read the demo's configurations: %w", err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(src, f.Name()))
		if err != nil {
			return nil, fmt.Errorf("read a configuration of the demo: %w", err)
		}
		text := strings.NewReplacer(replace...).Replace(string(b))
		if err := os.WriteFile(filepath.Join(dir, f.Name()), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("copy a configuration of the demo: %w", err)
		}
	}
	return s, nil
}

// Addr returns the host:port of a listener: a process's HTTP address under its name,
// others as NAME/grpc and NAME/write.
func (s *Site) Addr(name string) string {
	a, ok := s.addr[name]
	if !ok {
		panic("BUG: the site has no listener " + name)
	}
	return a
}

// URL returns the HTTP address of a process.
func (s *Site) URL(name string) string { return "http://" + s.Addr(name) }

// Path returns a path below the directory of the site.
func (s *Site) Path(elem ...string) string { return filepath.Join(append([]string{s.Dir}, elem...)...) }

// Proc returns a process that was started.
func (s *Site) Proc(name string) *Process { return s.procs[name] }

// Start starts the named processes, one after the other, and waits until each
// is ready.
func (s *Site) Start(names ...string) error {
	for _, name := range names {
		if err := s.start(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Site) start(name string) error {
	p, err := s.launch(name)
	if err != nil {
		return err
	}
	return WaitHTTP(p, s.command(name).ready, time.Minute)
}

func (s *Site) launch(name string) (*Process, error) {
	c := s.command(name)
	for _, dir := range c.dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make a directory for %s: %w", name, err)
		}
	}
	args := override(c.args, s.Extra[name])
	if s.Say != nil {
		fmt.Fprintf(s.Say, "\n%s\n  %s %s\n", name, filepath.Base(c.bin), strings.Join(args, " \\\n    "))
	}
	env := []string{"S3_ACCESS_KEY=" + S3AccessKey, "S3_SECRET_KEY=" + S3SecretKey}
	p, err := StartEnv(s.Dir, env, name, c.bin, args...)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(s.order, name) {
		s.order = append(s.order, name)
	}
	s.procs[name] = p
	return p, nil
}

// override adds extra flags. They replace flags of the same name, except flags that may
// be repeated.
func override(args, extra []string) []string {
	flag := func(a string) string { name, _, _ := strings.Cut(a, "="); return name }
	out := slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		return flag(a) != "--endpoint" && slices.ContainsFunc(extra, func(x string) bool { return flag(x) == flag(a) })
	})
	return append(out, extra...)
}

// Stop stops all running processes, last started first, and returns the errors of those
// that did not stop in order.
func (s *Site) Stop(within time.Duration) []error {
	var errs []error
	for _, name := range slices.Backward(s.order) {
		if p := s.procs[name]; p.Running() {
			if err := p.Stop(within); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// Kill ends all processes at once.
func (s *Site) Kill() {
	for _, name := range slices.Sorted(maps.Keys(s.procs)) {
		s.procs[name].Kill()
	}
}
