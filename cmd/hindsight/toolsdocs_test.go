package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// docCommands returns the commands of the program in the sh blocks of a document.
func docCommands(t *testing.T, path string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for i, part := range strings.Split(string(text), "```") {
		body, ok := strings.CutPrefix(part, "sh\n")
		if i%2 == 0 || !ok {
			continue
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(body, "\\\n", " "), "\n") {
			if rest, ok := strings.CutPrefix(line, "hindsight "); ok {
				out = append(out, rest)
			}
		}
	}
	return out
}

// words splits a line as a shell does, as far as the documents need it.
func words(line string) (out []string) {
	var word strings.Builder
	quote, any := rune(0), false
	for _, r := range line {
		switch {
		case r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, any = r, true
		case quote == 0 && r == ' ':
			if any {
				out = append(out, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(r)
			any = true
		}
	}
	if any {
		out = append(out, word.String())
	}
	return out
}

// The commands of the documents of the tools work as they are written.
func TestToolsDocuments_CommandsWork(t *testing.T) {
	docs, err := filepath.Abs("../../docs")
	require.NoError(t, err)
	var commands []string
	for _, doc := range []string{"bucket-tools.md", "check.md", "import.md", "sizing.md"} {
		commands = append(commands, docCommands(t, filepath.Join(docs, doc))...)
	}
	require.Greater(t, len(commands), 7)
	t.Chdir(t.TempDir())
	s := newToolSite(t, twoBlocks)
	for name, text := range map[string]string{
		"bucket.yml":     s.yml,
		"conf/shard.yml": "[{action: drop, source_labels: [a], regex: b}]",
		"conf/ring.json": `[{"endpoints": ["a:1"]}]`,
		"rules/a.yml":    "groups: []",
		"metrics.txt":    "m 1 1\n# EOF\n",
		"export.jsonl":   `{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}`,
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	require.NoError(t, os.MkdirAll("prometheus", 0o755))
	require.NoError(t, os.Symlink(blocktest.Dir(t, strings.Replace(twoBlocks, "block a", "block c", 1)), "prometheus/data"))
	for _, line := range commands {
		var out, errs bytes.Buffer
		// The ULID of the documents is no block of the test.
		args := words(strings.ReplaceAll(line, "01JX7RZ0G9C3V5M8D2K4T6W1NQ", id("a")))
		code := run(t.Context(), args, streams{out: &out, err: &errs})
		require.Equal(t, exitOK, code, fmt.Sprintf("%s\n%s%s", line, out.String(), errs.String()))
		require.NotEmpty(t, out.String(), line)
	}
}
