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

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// constants returns the constants of the package: value to name.
func constants(t *testing.T) map[string]string {
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
			if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.VAR {
				return false
			}
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
	return seen
}

// Every constant of the package has a value of its own, in snake_case.
func TestConstants_AreUniqueAndSnakeCase(t *testing.T) { require.NotEmpty(t, constants(t)) }

// Each reason has the id of a page, or is listed here as no error.
func TestReasons_HaveAPage(t *testing.T) {
	none := map[reason.Reason]string{
		reason.NothingToDownsample: "a state", reason.MemberLeaving: "wanted", reason.MemberScaledDown: "wanted",
		reason.FederateEncode: "the report of the answer names the metric", reason.FederateSend: "the client has gone",
		reason.ReloadSignal: "the cause of a reload", reason.ReloadRequest: "the cause of a reload",
		reason.NoSamples: "a state", reason.SourcesInBucket: "a state",
		reason.NoBucket: "a choice", reason.NoDataDirectory: "a choice", reason.OutOfOrderInHead: "a state", reason.BlocksNotListed: "a state",
		reason.StoreAskedElsewhere: "nothing is missing", reason.StoreOtherTimes: "nothing is missing",
		reason.StoreOtherLabels: "nothing is missing", reason.StoreFiltered: "nothing is missing", reason.StoreWithoutSeries: "nothing is missing",
		reason.Storage: "the cause of the write has the id",
	}
	for value, name := range constants(t) {
		id := reason.Reason(value).ErrorID()
		require.NotEqual(t, id == "", none[reason.Reason(value)] == "", "%s: give it an id in ids, or list it here with the reason why it has none", name)
		if id != "" {
			_, known := errorid.Explain(id.String())
			require.True(t, known, name)
		}
	}
}
