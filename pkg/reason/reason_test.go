package reason_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every constant of the package has a value of its own, in snake_case.
func TestConstants_AreUniqueAndSnakeCase(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	seen := map[string]string{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, v := range spec.Values {
				lit, ok := v.(*ast.BasicLit)
				require.True(t, ok, "%s: constants are literals", spec.Names[i].Name)
				value, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				require.Regexp(t, form, value)
				require.Empty(t, seen[value], "%s and %s are both %q", seen[value], spec.Names[i].Name, value)
				seen[value] = spec.Names[i].Name
			}
			return true
		})
	}
	require.NotEmpty(t, seen)
}
