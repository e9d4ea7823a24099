package arch

import (
	"cmp"
	"go/ast"
	"go/types"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/program"
)

// TestStores checks that each type that implements storeapi.Store has a test in
// stores.txt which runs the suite for stores, or a reason why it has none.
func TestStores(t *testing.T) {
	prog, err := program.Load()
	require.NoError(t, err)
	covered := lists(t, "stores.txt")
	suites := suiteRunners(prog)
	for _, n := range implementing(prog, "pkg/storeapi", "Store") {
		key := keyOf(n)
		how, ok := covered[key]
		if !ok {
			t.Errorf("%s implements storeapi.Store: add the test that runs storetest.Run over it to test/arch/stores.txt", key)
			continue
		}
		delete(covered, key)
		test, ok := strings.CutPrefix(how, "test ")
		switch {
		case !ok && !strings.HasPrefix(how, "reason "):
			t.Errorf("stores.txt: %s: want a test or a reason, not %q", key, how)
		case ok && !suites[test]:
			t.Errorf("stores.txt: %s: %s does not exist or does not call storetest.Run", key, test)
		}
	}
	for key := range covered {
		t.Errorf("stores.txt: %s does not exist or is no Store", key)
	}
}

// TestSeriesSets checks that no two types that implement storeapi.SeriesSet have
// one name.
func TestSeriesSets(t *testing.T) {
	prog, err := program.Load()
	require.NoError(t, err)
	all := implementing(prog, "pkg/storeapi", "SeriesSet")
	byName := map[string][]string{}
	for _, n := range all {
		byName[n.Name()] = append(byName[n.Name()], keyOf(n))
	}
	for name, keys := range byName {
		if len(keys) > 1 {
			t.Errorf("types that implement storeapi.SeriesSet have the name %s: %s", name, strings.Join(keys, ", "))
		}
	}
	t.Logf("%d types implement storeapi.SeriesSet", len(all))
	for _, n := range all {
		t.Log(keyOf(n))
	}
}

// implementing returns the types of pkg/ and cmd/, those of tests and test support
// left out, that implement an interface.
func implementing(prog *program.Program, pkg, name string) []*types.TypeName {
	var i *types.Interface
	for _, p := range prog.Packages {
		if p.Path == pkg && !p.Test {
			i = p.Types.Scope().Lookup(name).Type().Underlying().(*types.Interface)
		}
	}
	var out []*types.TypeName
	for _, p := range prog.Packages {
		if p.Test || slices.Contains(support, p.Path) || strings.HasPrefix(p.Path, "test/") {
			continue
		}
		for _, o := range p.Info.Defs {
			n, ok := o.(*types.TypeName)
			if ok && !n.IsAlias() && !types.IsInterface(n.Type()) && n.Parent() == p.Types.Scope() &&
				types.Implements(types.NewPointer(n.Type()), i) {
				out = append(out, n)
			}
		}
	}
	slices.SortFunc(out, func(a, b *types.TypeName) int { return cmp.Compare(keyOf(a), keyOf(b)) })
	return out
}

// suiteRunners returns the tests, as "pkg/store TestX", that call storetest.Run,
// directly or by functions of their package.
func suiteRunners(prog *program.Program) map[string]bool {
	calls := map[string][]string{}
	for _, p := range prog.Packages {
		if !p.Test {
			continue
		}
		for _, f := range p.Files {
			for _, d := range f.Decls {
				fd, ok := d.(*ast.FuncDecl)
				if !ok || fd.Recv != nil {
					continue
				}
				key := p.Path + " " + fd.Name.Name
				ast.Inspect(fd, func(n ast.Node) bool {
					if id, ok := n.(*ast.Ident); ok {
						if fn, ok := p.Info.Uses[id].(*types.Func); ok {
							calls[key] = append(calls[key], keyOf(fn))
						}
					}
					return true
				})
			}
		}
	}
	out := map[string]bool{}
	var runs func(key string, depth int) bool
	runs = func(key string, depth int) bool {
		return slices.ContainsFunc(calls[key], func(to string) bool {
			return to == "pkg/storeapi/storetest Run" || to == "pkg/storeapi/storetest RunFanout" || depth > 0 && runs(to, depth-1)
		})
	}
	for key := range calls {
		if _, name := splitKey(key); strings.HasPrefix(name, "Test") && runs(key, 4) {
			out[key] = true
		}
	}
	return out
}
