package arch

import (
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/program"
)

// support are packages for tests: the tests of other packages are their users.
var support = []string{
	"pkg/block/blocktest", "pkg/bucket/buckettest", "pkg/storeapi/storetest", "pkg/sidecar/prom/promtest", "pkg/vfs/faultfs",
	"pkg/xorcolumn/sampletext", "pkg/receive/discovery/kubetest",
}

// ofErrors are the methods that package errors looks for by interfaces without
// a name.
var ofErrors = []string{"Unwrap", "Is", "As"}

// TestUnusedExports lists exported functions, types, methods, constants and
// variables of pkg/ that no other package uses. Tests of other packages count
// as users of test support only. Methods that an interface needs count as used,
// and so do types in the signatures of used objects.
func TestUnusedExports(t *testing.T) {
	prog, err := program.Load()
	require.NoError(t, err)
	excepted := lists(t, "exports.txt")
	unused := map[string][]string{}
	n := 0
	all, used := declared(prog), usedExports(prog)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if used[key] {
			if _, ok := excepted[key]; ok {
				t.Errorf("exports.txt: %s is used by another package: remove the line", key)
			}
			continue
		}
		if _, ok := excepted[key]; ok {
			continue
		}
		pkg, name := splitKey(key)
		unused[pkg] = append(unused[pkg], name)
		n++
	}
	for key := range excepted {
		if all[key] == nil {
			t.Errorf("exports.txt: %s does not exist", key)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(unused)) {
		t.Logf("%s: %s", pkg, strings.Join(unused[pkg], " "))
		writeFindings(t, pkg, unused[pkg])
	}
	// Lower the bound with each identifier that is mended; it never rises.
	if n > 0 {
		t.Errorf("%d exported identifiers have no user in another package: unexport them, or list them in exports.txt with a reason", n)
	}
	t.Logf("%d exported identifiers have no user in another package", n)
}

// writeFindings writes one file for each package, where HINDSIGHT_FINDINGS names
// a directory.
func writeFindings(t *testing.T, pkg string, names []string) {
	dir := os.Getenv("HINDSIGHT_FINDINGS")
	if dir == "" {
		return
	}
	file := filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-")+".txt")
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	for _, name := range names {
		_, err = f.WriteString("unused export: " + name + "\n")
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}

// A key names an object over all versions of its package:
// "pkg/storeapi Store" or "pkg/storeapi Series.Labels".
func splitKey(key string) (pkg, name string) {
	pkg, name, _ = strings.Cut(key, " ")
	return pkg, name
}

// keyOf returns the key of a package-level object or a method, or "".
func keyOf(o types.Object) string {
	if o == nil || o.Pkg() == nil {
		return ""
	}
	pkg, ok := strings.CutPrefix(strings.TrimSuffix(o.Pkg().Path(), "_test"), program.Module)
	if !ok {
		return ""
	}
	if f, ok := o.(*types.Func); ok {
		if recv := f.Signature().Recv(); recv != nil {
			name := typeName(recv.Type())
			if name == "" {
				return ""
			}
			return pkg + " " + name + "." + f.Name()
		}
	}
	if o.Parent() != o.Pkg().Scope() {
		return ""
	}
	return pkg + " " + o.Name()
}

func typeName(t types.Type) string {
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem()
	}
	if n, ok := t.(*types.Named); ok {
		return n.Obj().Name()
	}
	return ""
}

// declared returns the exported objects of hand-written files in pkg/.
func declared(prog *program.Program) map[string]types.Object {
	out := map[string]types.Object{}
	for _, p := range prog.Packages {
		if p.Test || !strings.HasPrefix(p.Path, "pkg/") {
			continue
		}
		for id, o := range p.Info.Defs {
			if o == nil || !id.IsExported() || generated(prog.Fset.Position(id.Pos()).Filename) {
				continue
			}
			switch o := o.(type) {
			case *types.Func:
				if recv := o.Signature().Recv(); recv != nil && (types.IsInterface(recv.Type()) ||
					!token.IsExported(typeName(recv.Type())) || slices.Contains(ofErrors, o.Name())) {
					continue
				}
			case *types.TypeName, *types.Const:
			case *types.Var:
				if o.IsField() {
					continue
				}
			default:
				continue
			}
			if key := keyOf(o); key != "" {
				out[key] = o
			}
		}
	}
	return out
}

// usedExports returns the keys of all objects that another package uses.
func usedExports(prog *program.Program) map[string]bool {
	u := uses{seen: map[string]bool{}}
	for _, p := range prog.Packages {
		test := p.Test || strings.HasPrefix(p.Path, "test/")
		for _, o := range p.Info.Uses {
			key := keyOf(origin(o))
			pkg, _ := splitKey(key)
			if key == "" || pkg == p.Path || test && !slices.Contains(support, pkg) && !slices.Contains(support, p.Path) {
				continue
			}
			u.add(o)
		}
	}
	for _, p := range prog.Packages {
		if !p.Test {
			u.interfaces(p, prog.Imported)
		}
	}
	u.enumerations(prog)
	return u.seen
}

// enumerations marks constants of a type whose other constants are used: the values of
// an enumeration belong together.
func (u uses) enumerations(prog *program.Program) {
	of := map[string][]string{} // constants by their type
	for _, p := range prog.Packages {
		for _, o := range p.Info.Defs {
			if c, ok := o.(*types.Const); ok && !p.Test && c.Exported() {
				if n, ok := c.Type().(*types.Named); ok {
					of[keyOf(n.Obj())] = append(of[keyOf(n.Obj())], keyOf(c))
				}
			}
		}
	}
	for _, constants := range of {
		if slices.ContainsFunc(constants, func(key string) bool { return u.seen[key] }) {
			for _, key := range constants {
				u.seen[key] = true
			}
		}
	}
}

type uses struct{ seen map[string]bool }

// add marks an object, and the types that a user of it must be able to name.
func (u uses) add(o types.Object) {
	o = origin(o)
	key := keyOf(o)
	if key == "" || u.seen[key] {
		return
	}
	u.seen[key] = true
	if n, ok := o.(*types.TypeName); ok {
		u.addFields(n.Type().Underlying())
		return
	}
	u.addType(o.Type())
}

// addFields marks the types of exported fields, and of the methods of interfaces.
func (u uses) addFields(t types.Type) {
	switch t := t.(type) {
	case *types.Struct:
		for f := range t.Fields() {
			if f.Exported() {
				u.addType(f.Type())
			}
		}
	case *types.Interface:
		for m := range t.Methods() {
			u.addType(m.Type())
		}
	default:
		u.addType(t)
	}
}

func (u uses) addType(t types.Type) {
	switch t := t.(type) {
	case *types.Named:
		u.add(t.Obj())
		for a := range t.TypeArgs().Types() {
			u.addType(a)
		}
	case *types.Alias:
		u.add(t.Obj())
		u.addType(types.Unalias(t))
	case *types.Signature:
		for v := range t.Params().Variables() {
			u.addType(v.Type())
		}
		for v := range t.Results().Variables() {
			u.addType(v.Type())
		}
	case *types.Map:
		u.addType(t.Key())
		u.addType(t.Elem())
	case interface{ Elem() types.Type }:
		u.addType(t.Elem())
	case *types.Struct, *types.Interface:
		u.addFields(t)
	}
}

// origin returns the declared object of an instance of a generic one.
func origin(o types.Object) types.Object {
	switch o := o.(type) {
	case *types.Func:
		return o.Origin()
	case *types.Var:
		return o.Origin()
	}
	return o
}

// interfaces marks the methods by which the types of a package implement an
// interface that it could be used as: one of its own, of its imports, or of the
// universe.
func (u uses) interfaces(p *program.Package, imported []*types.Package) {
	var named []*types.Named
	for _, o := range p.Info.Defs {
		if n, ok := o.(*types.TypeName); ok && !n.IsAlias() {
			if t, ok := n.Type().(*types.Named); ok && !types.IsInterface(t) {
				named = append(named, t)
			}
		}
	}
	all := interfacesOf(imported)
	for _, t := range named {
		set := types.NewMethodSet(types.NewPointer(t))
		if set.Len() == 0 {
			continue
		}
		for _, i := range all {
			if t.TypeParams().Len() == 0 && !types.Implements(types.NewPointer(t), i) {
				continue
			}
			for m := range i.Methods() {
				if sel := set.Lookup(m.Pkg(), m.Name()); sel != nil {
					u.add(sel.Obj())
				}
			}
		}
	}
}

// interfacesOf returns the named interfaces of the packages, those that
// functions declare for themselves included.
func interfacesOf(pkgs []*types.Package) []*types.Interface {
	out := []*types.Interface{types.Universe.Lookup("error").Type().Underlying().(*types.Interface)}
	for _, p := range pkgs {
		for _, name := range p.Scope().Names() {
			n, ok := p.Scope().Lookup(name).(*types.TypeName)
			if !ok {
				continue
			}
			if i, ok := n.Type().Underlying().(*types.Interface); ok && i.NumMethods() > 0 && i.IsMethodSet() {
				out = append(out, i)
			}
		}
	}
	return out
}

// lists reads a file of lines "name : reason", with comments after #.
func lists(t *testing.T, file string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, text, ok := strings.Cut(line, " : ")
		require.True(t, ok && strings.TrimSpace(text) != "", "%s: %q needs \" : \" and a text", file, line)
		name = strings.Join(strings.Fields(name), " ")
		require.NotContains(t, out, name, "%s: %q is there twice", file, name)
		out[name] = strings.TrimSpace(text)
	}
	return out
}
