package arch

import (
	"go/ast"
	"go/types"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/program"
)

// stop is one function of a path.
type stop struct {
	name   string // "pkg/receive (*Receive).handleWrite"
	across bool   // reached over the network or through another module
}

type codePath struct {
	name  string
	most  int
	stops []stop
}

// TestPaths checks the paths of paths.txt: each function exists and calls the
// next one, and no path is longer than its limit.
func TestPaths(t *testing.T) {
	prog, err := program.Load()
	require.NoError(t, err)
	bodies := functions(prog)
	for _, w := range readPaths(t) {
		t.Logf("path %s: %d functions", w.name, len(w.stops))
		if len(w.stops) > w.most {
			t.Errorf("path %s has %d functions; at most %d", w.name, len(w.stops), w.most)
		}
		for i, s := range w.stops {
			fn, ok := bodies[s.name]
			if !ok {
				t.Errorf("path %s: %s does not exist", w.name, s.name)
				continue
			}
			if i+1 < len(w.stops) && !w.stops[i+1].across && !fn.calls(w.stops[i+1].name) {
				t.Errorf("path %s: %s does not call %s", w.name, s.name, w.stops[i+1].name)
			}
		}
	}
}

func readPaths(t *testing.T) []codePath {
	b, err := os.ReadFile("paths.txt")
	require.NoError(t, err)
	var out []codePath
	across := false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		fields := strings.Fields(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case fields[0] == "path":
			require.Len(t, fields, 3, "paths.txt: %q", line)
			most, err := strconv.Atoi(fields[2])
			require.NoError(t, err, "paths.txt: %q", line)
			out = append(out, codePath{name: fields[1], most: most})
		case line == "==" || fields[0] == "..":
			across = true
		default:
			require.NotEmpty(t, out, "paths.txt: a function before the first path")
			w := &out[len(out)-1]
			w.stops, across = append(w.stops, stop{name: line, across: across}), false
		}
	}
	return out
}

// function is a declared function with the types of its package.
type function struct {
	decl *ast.FuncDecl
	pkg  *program.Package
}

// functions returns the functions of the program by their names in paths.txt.
func functions(prog *program.Program) map[string]function {
	out := map[string]function{}
	for _, p := range prog.Packages {
		if p.Test {
			continue
		}
		for _, f := range p.Files {
			for _, d := range f.Decls {
				if fd, ok := d.(*ast.FuncDecl); ok {
					out[functionName(p.Info.Defs[fd.Name].(*types.Func))] = function{fd, p}
				}
			}
		}
	}
	return out
}

func functionName(f *types.Func) string {
	if f.Pkg() == nil {
		return f.Name()
	}
	pkg := strings.TrimPrefix(f.Pkg().Path(), program.Module)
	recv := f.Signature().Recv()
	switch {
	case recv == nil:
		return pkg + " " + f.Name()
	case types.IsInterface(recv.Type()):
		return "interface " + f.Name()
	}
	if _, ok := recv.Type().(*types.Pointer); ok {
		return pkg + " (*" + typeName(recv.Type()) + ")." + f.Name()
	}
	return pkg + " (" + typeName(recv.Type()) + ")." + f.Name()
}

// calls reports whether the function mentions another one, or an interface method
// of the same name.
func (f function) calls(name string) bool {
	found := false
	method := "interface " + name[strings.LastIndexAny(name, " .")+1:]
	ast.Inspect(f.decl, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			if fn, ok := f.pkg.Info.Uses[id].(*types.Func); ok {
				used := functionName(fn.Origin())
				found = found || used == name || strings.Contains(name, ").") && used == method
			}
		}
		return !found
	})
	return found
}
