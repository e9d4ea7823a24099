package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// guides are the pages whose commands TestGuides runs as they are, section by section.
var guides = []string{
	"docs/disaster-recovery.md",
	"docs/getting-started.md",
	"docs/migrate-from-federation.md",
	"docs/migrate-from-mimir.md",
	"docs/migrate-from-victoriametrics.md",
}

// oldData are the directories that a reader has, by the title of their section: two shards
// of one time, as a compactor of Mimir makes them, with other files beside.
// Sections about a bucket have the blocks in it.
var oldData = map[string]string{
	"Bring the old blocks over": "team-a", "Keep its history": "global",
	"The bucket is lost": oldBucket, "A part of the bucket is lost": oldBucket,
	"A retention was wrong, or blocks were marked by mistake": oldBucket,
}

const oldBucket = "bucket"

// guideBlock is a fenced block: its language, and the name of the file that it holds.
var guideBlock = regexp.MustCompile("(?ms)^```([a-z]+)(?: ([^\n]+))?\n(.*?)^```$")

// loopback are the addresses of a page, which become free ports.
var loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// guide is one section of a page: a directory with its files, and its processes.
type guide struct {
	t     *testing.T
	dir   string
	host  string
	ports map[string]string // by the address of the page
	run   []*harness.Process
}

// The files and commands of each section work as they stand in the page: processes run until
// the end of the section, tools end with 0, and queries have a result.
func TestGuides(t *testing.T) {
	t.Parallel()
	root, err := harness.Root()
	require.NoError(t, err)
	for _, page := range guides {
		text, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		for n, section := range strings.Split("\n"+string(text), "\n## ") {
			blocks := guideBlock.FindAllStringSubmatch(section, -1)
			if len(blocks) == 0 {
				continue
			}
			title, _, _ := strings.Cut(section, "\n")
			t.Run(fmt.Sprintf("%s/%d %s", filepath.Base(page), n, title), func(t *testing.T) {
				t.Parallel()
				g := &guide{t: t, dir: t.TempDir(), host: harness.Host(), ports: map[string]string{}}
				defer g.stop()
				if dir := oldData[title]; dir != "" {
					g.old(dir)
				}
				g.follow(blocks)
			})
		}
	}
}

// follow writes the files of a section and runs its commands. The bucket of a section exists:
// tools refuse one that does not.
func (g *guide) follow(blocks [][]string) {
	require.NoError(g.t, os.MkdirAll(filepath.Join(g.dir, "bucket"), 0o700))
	g.choosePorts(blocks)
	for _, b := range blocks {
		if b[2] != "" {
			text := strings.ReplaceAll(g.addresses(b[3]), "scrape_interval: 15s", "scrape_interval: 1s")
			require.NoError(g.t, os.WriteFile(filepath.Join(g.dir, b[2]), []byte(text), 0o600))
		}
	}
	for _, b := range blocks {
		if b[1] != "sh" {
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(b[3], "\\\n", " ")) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				g.command(g.addresses(line))
			}
		}
	}
}

// choosePorts gives each address of a section a free port. It asks for all at once: the
// kernel may return one twice otherwise.
func (g *guide) choosePorts(blocks [][]string) {
	var addresses []string
	for _, b := range blocks {
		addresses = append(addresses, loopback.FindAllString(b[3], -1)...)
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	ports, err := harness.Ports(g.host, len(addresses))
	require.NoError(g.t, err)
	for n, a := range addresses {
		g.ports[a] = ports[n]
	}
}

// addresses replaces the addresses of a text by their free ports.
func (g *guide) addresses(text string) string {
	return loopback.ReplaceAllStringFunc(text, func(a string) string { return g.ports[a] })
}

// command runs one command of the page.
func (g *guide) command(line string) {
	word, rest, _ := strings.Cut(line, " ")
	switch {
	case word == "hindsight" && !strings.HasPrefix(rest, "tools "):
		g.start("hindsight", rest, regexp.MustCompile(`--http-address=(\S+)`))
	case word == "prometheus":
		g.start("prometheus", rest, regexp.MustCompile(`--web\.listen-address=(\S+)`))
	case word == "curl":
		eventually(g.t, time.Minute, func() error {
			out, err := g.try(line)
			if err == nil && (!strings.Contains(out, `"status":"success"`) || strings.Contains(out, `"result":[]`)) {
				err = fmt.Errorf("%s answers %s", line, out)
			}
			return err
		})
	case slices.Contains([]string{"hindsight", "rm", "comm", "sed"}, word):
		g.shell(line)
	default:
		require.Fail(g.t, "this test does not know how to run "+line)
	}
}

// start runs a process until the end of the section.
func (g *guide) start(program, args string, address *regexp.Regexp) {
	m := address.FindStringSubmatch(args)
	require.NotNil(g.t, m, "%s names no address", args)
	name := fmt.Sprintf("process-%d", len(g.run))
	p, err := harness.StartEnv(g.dir, g.env(), name, "bash", "-c", "exec "+program+" "+args)
	require.NoError(g.t, err)
	g.run = append(g.run, p)
	require.NoError(g.t, harness.WaitHTTP(p, "http://"+m[1]+"/-/ready", time.Minute))
}

// env is the path in which the commands find the programs.
func (g *guide) env() []string {
	dir := filepath.Join(g.dir, ".bin")
	if err := os.Mkdir(dir, 0o755); err == nil {
		require.NoError(g.t, os.Symlink(bin.Hindsight, filepath.Join(dir, "hindsight")))
		require.NoError(g.t, os.Symlink(bin.Prometheus, filepath.Join(dir, "prometheus")))
	}
	return []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
}

// stop ends the processes, the last one first; all must end in order.
func (g *guide) stop() {
	for _, p := range slices.Backward(g.run) {
		if g.t.Failed() {
			g.t.Logf("the end of the log of %s:\n%s", p.Name, p.Tail(15))
			p.Kill()
			continue
		}
		require.NoError(g.t, p.Stop(30*time.Second))
	}
}

// shell runs a command to its end, which must be 0.
func (g *guide) shell(line string) {
	out, err := g.try(line)
	require.NoError(g.t, err, "%s\n%s", line, out)
}

func (g *guide) try(line string) (string, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir, cmd.Env = g.dir, append(os.Environ(), g.env()...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// old makes two blocks of two hours of 2026-01-01.
func (g *guide) old(dir string) {
	to := dir
	if dir == oldBucket {
		dir = "blocks"
	}
	for _, shard := range []string{"1", "2"} {
		var text strings.Builder
		for n := range 240 {
			fmt.Fprintf(&text, "old_total{shard=%q} %d %d\n", shard, n, 1767225600+30*n)
		}
		require.NoError(g.t, os.WriteFile(filepath.Join(g.dir, "old.txt"), []byte(text.String()+"# EOF\n"), 0o600))
		tool(g.t, 0, "tsdb", "import", filepath.Join(g.dir, "old.txt"), "--path="+filepath.Join(g.dir, dir), fmt.Sprintf("--label=__compactor_shard_id__=%q", shard+"_of_2"))
	}
	blocks, err := filepath.Glob(filepath.Join(g.dir, dir, "*", "meta.json"))
	require.NoError(g.t, err)
	require.Len(g.t, blocks, 2)
	if to == oldBucket {
		for _, meta := range blocks {
			require.NoError(g.t, os.MkdirAll(filepath.Join(g.dir, to), 0o755))
			require.NoError(g.t, os.Rename(filepath.Dir(meta), filepath.Join(g.dir, to, filepath.Base(filepath.Dir(meta)))))
		}
		return
	}
	for _, meta := range blocks {
		require.NoError(g.t, os.WriteFile(filepath.Join(filepath.Dir(meta), "sparse-index-header"), []byte("x"), 0o600))
	}
	require.NoError(g.t, os.WriteFile(filepath.Join(g.dir, dir, "bucket-index.json.gz"), []byte("x"), 0o600))
}
