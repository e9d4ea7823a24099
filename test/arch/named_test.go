package arch

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each test that a page names exists.
func TestDocuments_NameOnlyTestsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, dir := range []string{"pkg", "cmd", "test", "examples", "deploy"} {
		for _, s := range sources(t, dir) {
			for _, d := range s.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
					known[fn.Name.Name] = true
				}
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	require.NoError(t, err)
	named := 0
	for _, page := range append(pages, filepath.Join("..", "..", "README.md")) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile("`(Test[A-Z]\\w*)(?:/[^`]*)?`").FindAllStringSubmatch(string(text), -1) {
			named++
			if !known[m[1]] && !strings.HasPrefix(m[1], "TestConfigured") {
				t.Errorf("%s names the test %s, which does not exist", page, m[1])
			}
		}
	}
	require.Greater(t, named, 20)
}
