package receive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

func ringOf(lis ...net.Listener) string {
	var names []string
	for _, l := range lis {
		names = append(names, fmt.Sprintf("%q", l.Addr().String()))
	}
	return `[{"endpoints": [` + strings.Join(names, ",") + `]}]`
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// replacements are the ways in which configuration files are replaced: written
// over, renamed over, and swapped as Kubernetes does with a ConfigMap.
func replacements(t *testing.T, dir string) map[string]struct {
	path string
	put  func(content string)
} {
	write := func(path, content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	plain, renamed := filepath.Join(dir, "plain", "ring.json"), filepath.Join(dir, "renamed", "ring.json")
	for _, p := range []string{plain, renamed, filepath.Join(dir, "mounted", "x")} {
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o700))
	}
	mounted, version := filepath.Join(dir, "mounted"), 0
	return map[string]struct {
		path string
		put  func(content string)
	}{
		"written over": {plain, func(content string) { write(plain, content) }},
		"renamed over": {renamed, func(content string) {
			write(renamed+".tmp", content)
			require.NoError(t, os.Rename(renamed+".tmp", renamed))
		}},
		"swapped like a ConfigMap": {filepath.Join(mounted, "ring.json"), func(content string) {
			// ring.json -> ..data/ring.json, ..data -> ..version_n
			version++
			name := fmt.Sprintf("..version_%d", version)
			require.NoError(t, os.Mkdir(filepath.Join(mounted, name), 0o700))
			write(filepath.Join(mounted, name, "ring.json"), content)
			require.NoError(t, os.Symlink(name, filepath.Join(mounted, "..data_tmp")))
			require.NoError(t, os.Rename(filepath.Join(mounted, "..data_tmp"), filepath.Join(mounted, "..data")))
			if version == 1 {
				require.NoError(t, os.Symlink(filepath.Join("..data", "ring.json"), filepath.Join(mounted, "ring.json")))
				return
			}
			require.NoError(t, os.RemoveAll(filepath.Join(mounted, fmt.Sprintf("..version_%d", version-1))))
		}},
	}
}

// Each way of replacing the file is noticed. An invalid version is rejected, logged
// and counted, and the last valid one stays in use.
func TestHashringReload_KeepsLastValidVersion(t *testing.T) {
	for how, file := range replacements(t, t.TempDir()) {
		t.Run(how, func(t *testing.T) {
			first, second := listen(t), listen(t)
			file.put(ringOf(first))
			log := &buffer{}
			cfg := DefaultConfig()
			cfg.HashringsFile = file.path
			cfg.HashringRefresh = flags.Duration(time.Hour) // the change itself must be seen
			a := startLogging(t, cfg, first, log)
			b := start(t, DefaultConfig(), second, nil)
			members := func() (out []string) {
				for _, m := range a.ring().Members {
					out = append(out, m.Address)
				}
				return out
			}
			now := time.Now().UnixMilli()
			require.Equal(t, 200, post(t, a.url("/api/v1/receive"), v1(t, now, names(0, 50)...)).code)
			require.Empty(t, series(t, b.Store()))

			for i, broken := range []string{"", `[{"endpoints": [`, `[{"endpoints": ["x:1", "x:1"]}]`, ringOf(first, second)[1:]} {
				file.put(broken)
				require.Eventually(t, func() bool { return a.refusedRings(t) == float64(i+1) }, 10*time.Second, 5*time.Millisecond, "%q", broken)
				require.Equal(t, []string{first.Addr().String()}, members())
				require.Equal(t, 200, post(t, a.url("/api/v1/receive"), v1(t, now, "x")).code)
			}
			require.Contains(t, log.String(), "hashring rejected")
			require.Contains(t, log.String(), "listed twice")

			file.put(ringOf(first, second))
			require.Eventually(t, func() bool { return len(members()) == 2 }, 10*time.Second, 5*time.Millisecond)
			require.Equal(t, 200, post(t, a.url("/api/v1/receive"), v1(t, now+1, names(50, 150)...)).code)
			require.NotEmpty(t, series(t, b.Store()), "the new member gets its share")
			file.put(ringOf(second))
			require.Eventually(t, func() bool { return len(members()) == 1 && a.ring().Self == "" }, 10*time.Second, 5*time.Millisecond)
			before := len(series(t, a.Store()))
			require.Equal(t, 200, post(t, a.url("/api/v1/receive"), v1(t, now+2, names(200, 220)...)).code)
			require.Len(t, series(t, a.Store()), before, "a node that has left the ring only routes")
		})
	}
}

func (m *member) refusedRings(t *testing.T) float64 {
	var out dto.Metric
	require.NoError(t, m.metrics.ringFailures.Write(&out))
	return out.Counter.GetValue()
}

// A node cannot know at load that a load balancer leads to itself; the first write
// shows it.
func TestMemberThatIsThisNode_IsDetectedAtFirstWrite(t *testing.T) {
	lis := listen(t)
	balancer := listen(t) // passes all on to the node
	forward(t, balancer, lis.Addr().String())
	cfg := DefaultConfig()
	cfg.Hashrings = ringOf(balancer)
	log := &buffer{}
	m := startLogging(t, cfg, lis, log)
	require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, time.Now().UnixMilli(), "a")).code, "it is stored, and goes round no further")
	require.Equal(t, map[string]int{"default-tenant/a": 1}, series(t, m.Store()))
	require.Contains(t, log.String(), "routing loop")
	require.Contains(t, log.String(), balancer.Addr().String())
	require.Contains(t, get(t, m, "GET", "/api/v1/receive/ring").body, `"leads_back":true`)
}

// forward passes connections on until the end of the test.
func forward(t *testing.T, from net.Listener, to string) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := from.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
			for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					defer stop()
					_, _ = io.Copy(c[0], c[1])
					c[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() { from.Close(); cancel(); wg.Wait() })
}

// startLogging is start with a log.
func startLogging(t *testing.T, cfg Config, lis net.Listener, log io.Writer) *member {
	return startWith(t, cfg, lis, Deps{Logger: slog.New(slog.NewTextHandler(log, nil))})
}
