package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// port is a listener of a role that is protected.
type port struct {
	flag string
	grpc bool
	// raw is set for protocols other than HTTP and gRPC, with the TLS of gRPC.
	raw bool
	// paths are requests, as method and path, that only known users may make.
	paths []string
}

// protectedRole is a role with all of its ports.
type protectedRole struct {
	name  string
	args  []string
	ports []port
}

// protectedRoles returns every role with every port that it can have.
func protectedRoles(s *harness.Site) []protectedRole {
	pages := port{flag: "--http-address", paths: []string{
		"GET /", "GET /metrics", "GET /-/healthy", "GET /-/ready", "POST /-/reload", "GET /debug/pprof/", "GET /no/such/page",
		"GET /api/v1/query?query=1", "GET /api/v1/status/config", "POST /api/v1/receive", "POST /api/v1/admin/tsdb/delete_series",
	}}
	profiling := port{flag: "--http.profiling-address", paths: []string{"GET /debug/pprof/", "GET /debug/pprof/cmdline", "GET /debug/pprof/heap"}}
	stores := port{flag: "--grpc-address", grpc: true}
	writes := port{flag: "--remote-write.address", paths: []string{
		"POST /api/v1/receive", "POST /api/v1/otlp", "GET /api/v1/status/tsdb", "GET /-/healthy", "GET /-/ready", "GET /metrics", "GET /",
	}}
	objects := "--objstore.config=type: FILESYSTEM\nconfig: {directory: " + s.Path("objects") + "}"
	return []protectedRole{
		{"sidecar", []string{"--prometheus.url=http://" + harness.Host() + ":1", "--tsdb.path=" + s.Path("prometheus")}, []port{pages, profiling, stores}},
		{"receive", []string{
			"--tsdb.path=" + s.Path("receive"), "--remote-write.http-config=" + s.Path("tls", "web.yml"),
		}, []port{pages, profiling, stores, writes, {flag: "--receive.capnproto-address", raw: true}}},
		{"store", []string{"--data-dir=" + s.Path("store"), objects}, []port{pages, profiling, stores}},
		{"query", nil, []port{pages, profiling, stores}},
		{"compact", []string{"--data-dir=" + s.Path("compact"), objects, "--wait"}, []port{pages, profiling}},
		{"all", []string{"--data-dir=" + s.Path("all")}, []port{pages, profiling, stores}},
	}
}

// Each port of each role admits only clients with a certificate of the authority and, over
// HTTP, with a known user and password. No role has another port.
func TestPorts_AdmitOnlyKnownClients(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	known, unknown := newAuthority(t, "known"), newAuthority(t, "unknown")
	known.issue(s.Path("tls"), "node")
	replaceFile(t, s.Path("tls", "ca.crt"), known.pem)
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	require.NoError(t, err)
	replaceFile(t, s.Path("tls", "web.yml"), fmt.Appendf(nil, `
tls_server_config: {cert_file: node.crt, key_file: node.key, client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert}
basic_auth_users: {alice: %q}
`, hash))
	require.NoError(t, os.MkdirAll(s.Path("prometheus"), 0o755))
	a := admission{t: t, known: known.client(known), unknown: unknown.client(known)}
	a.none = a.known.Clone()
	a.none.Certificates = nil
	for _, role := range protectedRoles(s) {
		t.Run(role.name, func(t *testing.T) {
			a := a
			a.t = t
			addr, err := harness.Ports(harness.Host(), len(role.ports))
			require.NoError(t, err)
			args := append([]string{role.name, "--http.config=" + s.Path("tls", "web.yml")}, role.args...)
			for i, p := range role.ports {
				args = append(args, p.flag+"="+addr[i])
				if p.grpc {
					args = append(args, "--grpc-server-tls-cert="+s.Path("tls", "node.crt"), "--grpc-server-tls-key="+s.Path("tls", "node.key"),
						"--grpc-server-tls-client-ca="+s.Path("tls", "ca.crt"))
				}
			}
			proc, err := harness.Start(s.Dir, "protected-"+role.name, bin.Hindsight, args...)
			require.NoError(t, err)
			t.Cleanup(proc.Kill)
			eventually(t, time.Minute, func() error {
				open, err := listening(proc.Pid())
				if err == nil && !slices.Equal(open, slices.Sorted(slices.Values(addr))) {
					err = fmt.Errorf("open are %v, want %v; the log:\n%s", open, addr, proc.Tail(5))
				}
				return err
			})
			for i, p := range role.ports {
				switch {
				case p.grpc:
					a.overGRPC(addr[i])
				case p.raw:
					a.overTLS(addr[i])
				default:
					a.overHTTP(addr[i], p)
				}
			}
		})
	}
}

// admission has the three kinds of clients with TLS.
type admission struct {
	t                    *testing.T
	known, unknown, none *tls.Config
}

// get makes a request as its method and path, and returns its status and text.
func (a admission) get(scheme, addr, request string, cfg *tls.Config, user, password string) (int, string, error) {
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequest(method, scheme+"://"+addr+path, http.NoBody)
	require.NoError(a.t, err)
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func (a admission) overHTTP(addr string, p port) {
	t := a.t
	for _, cfg := range []*tls.Config{a.none, a.unknown} {
		_, _, err := a.get("https", addr, p.paths[0], cfg, "alice", "right")
		require.Error(t, err, "%s: a client without a certificate of the authority", p.flag)
	}
	code, text, err := a.get("http", addr, p.paths[0], nil, "alice", "right")
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, code, "%s: plain text: %s", p.flag, text)
	for _, request := range p.paths {
		place := p.flag + " " + request
		for _, c := range []struct{ user, password, want string }{
			{"", "", "send user and password by basic auth"},
			{"alice", "wrong", "unknown user or wrong password"},
			{"alice", "", "unknown user or wrong password"},
			{"bob", "right", "unknown user or wrong password"},
		} {
			code, text, err := a.get("https", addr, request, a.known, c.user, c.password)
			require.NoError(t, err, place)
			require.Equal(t, http.StatusUnauthorized, code, "%s: %s", place, text)
			require.Equal(t, "unauthorized: "+c.want+" [hs-unauthorized]\n", text, place)
		}
		code, text, err := a.get("https", addr, request, a.known, "alice", "right")
		require.NoError(t, err, place)
		require.NotContains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, code, "%s: %s", place, text)
		if strings.Contains(request, "/debug/pprof/") {
			require.Equal(t, p.flag == "--http.profiling-address", code == http.StatusOK, "%s: %d", place, code)
		}
	}
}

func (a admission) overGRPC(addr string) {
	t := a.t
	check := func(c credentials.TransportCredentials) error {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(c))
		require.NoError(t, err)
		defer conn.Close()
		_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		return err
	}
	require.NoError(t, check(credentials.NewTLS(a.known)))
	for _, c := range []credentials.TransportCredentials{credentials.NewTLS(a.unknown), credentials.NewTLS(a.none), insecure.NewCredentials()} {
		require.Equal(t, codes.Unavailable, status.Code(check(c)))
	}
}

// overTLS checks that the server keeps the connection of a known client only: one that is
// refused gets an alert, or the end of the connection.
func (a admission) overTLS(addr string) {
	t := a.t
	answer := func(conn net.Conn) error {
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Second)))
		if _, plain := conn.(*net.TCPConn); plain {
			_, err := conn.Write([]byte("no handshake of TLS"))
			require.NoError(t, err)
		}
		_, err := io.Copy(io.Discard, conn)
		return err
	}
	dial := func(cfg *tls.Config) error {
		conn, err := tls.Dial("tcp", addr, cfg)
		require.NoError(t, err) // the server checks the certificate later
		return answer(conn)
	}
	require.ErrorIs(t, dial(a.known), os.ErrDeadlineExceeded, "the server waits for a message")
	for _, cfg := range []*tls.Config{a.unknown, a.none} {
		var refused *net.OpError
		err := dial(cfg)
		require.ErrorAs(t, err, &refused)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	require.NotErrorIs(t, answer(conn), os.ErrDeadlineExceeded, "plain text")
}

// listening returns the TCP addresses on which a process listens, sorted. The kernel
// lists the sockets of all processes, and the process has the numbers of its own.
func listening(pid int) ([]string, error) {
	own := map[string]bool{}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if target, err := os.Readlink(f); err == nil { // else closed meanwhile
			own[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
		}
	}
	var out []string
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			const local, state, inode = 1, 3, 9
			row := strings.Fields(lines.Text())
			if len(row) <= inode || row[state] != "0A" || !own[row[inode]] {
				continue
			}
			host, portText, _ := strings.Cut(row[local], ":")
			number, err := hex.DecodeString(portText)
			if err != nil {
				return nil, err
			}
			raw, err := hex.DecodeString(host)
			if err != nil {
				return nil, err
			}
			slices.Reverse(raw[:4]) // in the order of the machine
			ip := net.IP(raw).String()
			out = append(out, fmt.Sprintf("%s:%d", ip, binary.BigEndian.Uint16(number)))
		}
	}
	slices.Sort(out)
	return out, nil
}
