package e2e

import (
	"io/fs"
	"maps"
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

// instruction is one command that a document shows.
type instruction struct {
	doc, text string
}

// dir returns the directory in which a reader runs it.
func (c instruction) dir() string { return filepath.Dir(c.doc) }

// documents returns the Markdown files of the repository.
func documents(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "data" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".md"):
			out = append(out, path)
		}
		return nil
	})
	require.NoError(t, err)
	return out
}

var (
	fence        = regexp.MustCompile("(?ms)^```([a-z]*)(?: [^\n]+)?\n(.*?)^```$")
	firstWord    = regexp.MustCompile(`^(?:[A-Z_]+=\S+ )*(\S+)`)
	commandWords = regexp.MustCompile(`(?m)^(make|curl|hindsight|bin/hindsight|prometheus|go) `)
)

// instructions returns the commands in the blocks of a document that are marked sh.
// The test skips other blocks, so these must hold no commands.
func instructions(t *testing.T, doc string) []instruction {
	t.Helper()
	b, err := os.ReadFile(doc)
	require.NoError(t, err)
	var out []instruction
	for _, block := range fence.FindAllStringSubmatch(string(b), -1) {
		if block[1] != "sh" {
			require.False(t, commandWords.MatchString(block[2]), "%s: mark this block with sh:\n%s", doc, block[2])
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(block[2], "\\\n", " ")) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") {
				out = append(out, instruction{doc: doc, text: line})
			}
		}
	}
	return out
}

// Each command of each document works on the processes that the document names.
func TestDocuments_CommandsWork(t *testing.T) {
	t.Parallel()
	root, err := harness.Root()
	require.NoError(t, err)
	r := documentRunner{t: t, root: root, demo: newSite(t)}
	r.demo.Endpoints = []string{"sidecar-eu-a", "sidecar-eu-b"}
	require.NoError(t, r.demo.Start("node", "s3", "prometheus-eu-a", "prometheus-eu-b", "sidecar-eu-a", "sidecar-eu-b", "query"))
	r.startAll()
	api := harness.API{Base: r.demo.URL("query")}
	eventually(t, time.Minute, func() error { return expect(api, `count(up{job="node"})`, "1") })
	eventually(t, time.Minute, func() error { return expect(harness.API{Base: "http://" + r.all}, `count(up)`, "1") })
	ran := 0
	for _, doc := range documents(t, root) {
		page, err := filepath.Rel(root, doc)
		require.NoError(t, err)
		if slices.Contains(guides, page) {
			continue // TestGuides runs them
		}
		for _, c := range instructions(t, doc) {
			r.run(c)
			ran++
		}
	}
	require.Greater(t, ran, 8)
}

// documentRunner holds the processes that documents name.
type documentRunner struct {
	t    *testing.T
	root string
	demo *harness.Site
	all  string // address of the process that holds all roles
}

// startAll starts the process of the quick start.
func (r *documentRunner) startAll() {
	dir, host := r.t.TempDir(), harness.Host()
	addr, err := harness.Port(host)
	require.NoError(r.t, err)
	p, err := harness.Start(dir, "all", bin.Hindsight, "all", "--data-dir=./data", "--http-address="+addr, "--grpc-address="+host+":0")
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, p.Stop(10*time.Second)) })
	require.NoError(r.t, harness.WaitHTTP(p, "http://"+addr+"/-/ready", 30*time.Second))
	r.all = addr
}

func (r *documentRunner) run(c instruction) {
	t := r.t
	switch word := firstWord.FindStringSubmatch(c.text)[1]; word {
	case "make":
		target, _, _ := strings.Cut(c.text, "#")
		r.shell(c, r.root, strings.Replace(target, "make ", "make -n ", 1))
	case "curl":
		out := r.shell(c, c.dir(), r.addresses(strings.Replace(c.text, "curl ", "curl --fail ", 1)))
		require.Contains(t, out, `"status":"success"`, "%s: %s", c.doc, c.text)
		require.NotContains(t, out, `"result":[]`, "%s: %s finds nothing", c.doc, c.text)
	case "hindsight", "bin/hindsight":
		// --help ends the program after it has recognised all flags.
		args, _, _ := strings.Cut(strings.TrimPrefix(c.text, word), " #")
		r.shell(c, c.dir(), bin.Hindsight+args+" --help")
	case "prometheus":
		r.shell(c, c.dir(), bin.Promtool+" check config --syntax-only prometheus.yml")
		require.Contains(t, c.text, "--config.file=prometheus.yml")
	case "go":
		if program, ok := strings.CutPrefix(c.text, "go run "); ok {
			program, _, _ = strings.Cut(program, " ")
			r.shell(c, r.root, "go build -o /dev/null "+program)
			return
		}
		out := r.shell(c, r.root, strings.Replace(c.text, "-run", "-list", 1))
		require.Contains(t, out, "Test", "%s: %s names no test", c.doc, c.text)
	default:
		t.Errorf("%s: this test does not know how to try %q", c.doc, c.text)
	}
}

// addresses puts the addresses of the processes of this test into a command.
func (r *documentRunner) addresses(text string) string {
	return strings.NewReplacer(
		"127.0.0.1:10902", r.all,
		"127.0.0.1:10992", r.demo.Addr("query"),
	).Replace(text)
}

func (r *documentRunner) shell(c instruction, dir, command string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "bash", "-c", command)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, "%s: %s\n%s", c.doc, c.text, out)
	return string(out)
}

var (
	// anyFlag finds flags, and "--name-*", which stands for all with that prefix.
	anyFlag = regexp.MustCompile("(?:^|[ `(])--([a-z][a-zA-Z0-9._-]*[a-zA-Z0-9])(-\\*)?")
	// othersFlags belong to other programs.
	othersCommands = regexp.MustCompile("(?m)^(?:kubectl|helm|docker|kind) .*$|`(?:kubectl|helm|docker|kind|prometheus) [^`]*`")
	othersFlags    = regexp.MustCompile(`^(query-frontend\.|storage\.|web\.enable|web\.listen-address|enable-feature|config\.file|syntax-only|data-urlencode|fail|help|replicas$)`)
)

// Every flag that a document names is a flag of the program.
func TestDocuments_NameOnlyFlagsThatExist(t *testing.T) {
	t.Parallel()
	root, err := harness.Root()
	require.NoError(t, err)
	known := map[string]bool{}
	references, err := filepath.Glob(filepath.Join(root, "docs/flags/*.md"))
	require.NoError(t, err)
	for _, path := range references {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("(?m)^\\| `--(?:\\[no-\\])?([^`]+)`").FindAllStringSubmatch(string(b), -1) {
			known[m[1]] = true
		}
	}
	require.Greater(t, len(known), 150)
	for _, doc := range documents(t, root) {
		b, err := os.ReadFile(doc)
		require.NoError(t, err)
		for _, m := range anyFlag.FindAllStringSubmatch(othersCommands.ReplaceAllString(string(b), ""), -1) {
			name := strings.TrimPrefix(m[1], "no-")
			if m[2] != "" && slices.ContainsFunc(slices.Collect(maps.Keys(known)), func(k string) bool { return strings.HasPrefix(k, name+"-") }) {
				continue
			}
			if !known[name] && !othersFlags.MatchString(name) {
				t.Errorf("%s names the flag --%s, which no command has", doc, m[1])
			}
		}
	}
}
