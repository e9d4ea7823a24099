package arch

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// symptom is a text of the program in a page: in the first column of a table.
var symptom = regexp.MustCompile("`([^`]+)`")

// Each text that docs/troubleshooting.md says the program prints is in its code: error
// texts, metrics, and values of the label reason. "…" stands for what differs.
func TestTroubleshooting_TextsAreThoseOfTheCode(t *testing.T) {
	var all strings.Builder
	literals := map[string]bool{}
	for _, s := range append(sources(t, "pkg"), sources(t, "cmd")...) {
		if s.test() {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					all.WriteString(text + "\n")
					literals[text] = true
				}
			}
			return true
		})
	}
	code := all.String()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "troubleshooting.md"))
	require.NoError(t, err)
	metrics, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	require.NoError(t, err)
	found := 0
	_, sections, ok := strings.Cut(string(page), "## The start is refused")
	require.True(t, ok)
	for line := range strings.Lines(sections) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| you see") {
			continue
		}
		for _, m := range symptom.FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			found++
			text := m[1]
			if strings.HasPrefix(text, "hindsight_") {
				if !strings.Contains(string(metrics), "`"+text+"`") && !composed(literals, text) {
					t.Errorf("docs/troubleshooting.md names the metric %s, which no page and no code has", text)
				}
				continue
			}
			for _, part := range strings.Split(text, "…") {
				if part = strings.TrimSpace(part); !strings.Contains(code, part) {
					t.Errorf("docs/troubleshooting.md: no text of the program has %q", part)
				}
			}
		}
	}
	require.Greater(t, found, 60, "the tables of symptoms are not recognised")
}

// composed reports whether the code makes a name of a prefix and the rest of it.
func composed(literals map[string]bool, name string) bool {
	for i, r := range name {
		if r == '_' && literals[name[:i+1]] && literals[name[i+1:]] {
			return true
		}
	}
	return literals[name]
}
