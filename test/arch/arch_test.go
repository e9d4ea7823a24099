// Package arch holds the tests of the architecture: the imports that each package
// may have, the length of functions and files, and what must not occur.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module          = "github.com/hindsight-io/hindsight/"
	maxFunctionLine = 80
	maxFileLines    = 500
	maxParameters   = 5
)

// source is one hand-written Go file.
type source struct {
	path string // slash-separated, from the root of the repository
	ast  *ast.File
	fset *token.FileSet
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// pkg is the directory below pkg/, or "" for files elsewhere.
func (s source) pkg() string {
	dir, ok := strings.CutPrefix(path.Dir(s.path), "pkg/")
	if !ok {
		return ""
	}
	return dir
}

func (s source) line(p token.Pos) int { return s.fset.Position(p).Line }

func sources(t *testing.T, dirs ...string) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []source
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || generated(p) {
				return err
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, p, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, p)
			out = append(out, source{path: filepath.ToSlash(rel), ast: f, fset: fset})
			return err
		})
		require.NoError(t, err)
	}
	require.NotEmpty(t, out)
	return out
}

func generated(p string) bool {
	return strings.HasSuffix(p, ".pb.go") || strings.HasSuffix(p, ".capnp.go")
}

// rules reads imports.txt.
func rules(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile("imports.txt")
	require.NoError(t, err)
	out := map[string][]string{}
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, list, ok := strings.Cut(line, ":")
		require.True(t, ok, "imports.txt line %d has no colon", i+1)
		out[strings.TrimSpace(name)] = strings.Fields(list)
	}
	return out
}

func allowed(patterns []string, imp string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		dir, all := strings.CutSuffix(p, "/*")
		return p == imp || all && (imp == dir || strings.HasPrefix(imp, dir+"/"))
	})
}

func TestImports(t *testing.T) {
	table, used := rules(t), map[string][]string{}
	for _, s := range sources(t, "pkg") {
		if s.test() {
			continue
		}
		may, ok := table[s.pkg()]
		if !ok {
			t.Errorf("%s: package %q has no line in test/arch/imports.txt", s.path, s.pkg())
			continue
		}
		for _, imp := range s.ast.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			require.NoError(t, err)
			ours, ok := strings.CutPrefix(name, module)
			if !ok {
				continue
			}
			ours = strings.TrimPrefix(ours, "pkg/")
			used[s.pkg()] = append(used[s.pkg()], ours)
			if !allowed(may, ours) {
				t.Errorf("%s: package %q may not import %q; see the rules in test/arch/imports.txt", s.path, s.pkg(), ours)
			}
		}
	}
	for name, patterns := range table {
		if _, err := os.Stat(filepath.Join("..", "..", "pkg", filepath.FromSlash(name))); err != nil {
			t.Errorf("imports.txt: package %q does not exist", name)
		}
		for _, p := range patterns {
			if p != "-" && !slices.ContainsFunc(used[name], func(imp string) bool { return allowed([]string{p}, imp) }) {
				t.Errorf("imports.txt: package %q does not import %q: remove the permission", name, p)
			}
		}
	}
}

// atMost fails the test when there are more findings than are known. Lower the bound
// with each finding that is mended; it never rises.
func atMost(t *testing.T, bound int, findings []string) {
	t.Helper()
	for _, f := range findings {
		t.Log(f)
	}
	if len(findings) > bound {
		t.Errorf("%d findings; at most %d are known", len(findings), bound)
	}
}

// pure are the packages that decide: values in, values out.
var pure = []string{
	"aggr", "chunkcheck", "chunkmask", "columnchunk", "compact/downsample", "compact/plan", "dedup", "doctor", "headlog", "probe", "protoscan", "query/distribute", "receive/hashring", "receive/members", "receive/multitsdb/lifecycle", "samplecheck", "sizing", "xorcolumn", "zerocopy",
}

// wire are the packages that know protobuf or Cap'n Proto.
var wire = []string{
	"storeapi/storepb", "storeapi/storepb/*", "storeapi/storerpc", "receive/peer", "receive/remotewrite",
	"receive/capnpserver", "receive/capnpserver/capnpb", "probe/wire", "sidecar/prom", "sidecar/prom/promtest",
	// The types of a remote read request and of its answer.
	"query", "query/promapi",
}

// TestForeignImports keeps cloud SDKs where buckets are opened, so that no unit
// test links them; protobuf at the wire; unsafe in one package; and I/O, logs and
// contexts out of the pure packages.
func TestForeignImports(t *testing.T) {
	impure := []string{
		"context", "log", "log/slog", "os", "net", "net/http", "testing",
		"github.com/prometheus/client_golang",
	}
	protobuf := []string{
		"google.golang.org/protobuf", "github.com/planetscale/vtprotobuf", "github.com/gogo/protobuf",
		"github.com/prometheus/prometheus/prompb", "capnproto.org/go/capnp", module + "pkg/storeapi/storepb",
		module + "pkg/receive/capnpserver/capnpb",
	}
	for _, s := range sources(t, "pkg", "cmd") {
		if s.test() {
			continue
		}
		for _, imp := range s.ast.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			below := func(i string) bool { return name == i || strings.HasPrefix(name, i+"/") }
			if below("github.com/thanos-io/objstore") && s.pkg() != "bucket/provider" {
				t.Errorf("%s imports %s: only bucket/provider knows objstore", s.path, name)
			}
			if name == "unsafe" && s.pkg() != "zerocopy" {
				t.Errorf("%s imports unsafe: only zerocopy does", s.path)
			}
			if slices.ContainsFunc(protobuf, below) && !allowed(wire, s.pkg()) {
				t.Errorf("%s imports %s: only the packages of the wire know it (see the list in test/arch)", s.path, name)
			}
			if slices.Contains(pure, s.pkg()) && name != "net/netip" && slices.ContainsFunc(impure, below) {
				t.Errorf("%s imports %s: package %q is pure: it has no I/O, log or clock", s.path, name, s.pkg())
			}
		}
		if slices.Contains(pure, s.pkg()) {
			s.noClock(t)
		}
	}
}

// noClock reports uses of the clock.
func (s source) noClock(t *testing.T) {
	ast.Inspect(s.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" &&
			slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}, sel.Sel.Name) {
			t.Errorf("%s:%d: time.%s: package %q takes the time as a value", s.path, s.line(n.Pos()), sel.Sel.Name, s.pkg())
		}
		return true
	})
}

// bare matches a sentence that opens with a clause without an actor.
var bare = regexp.MustCompile(`(^|[.:;] )(Who|What|Whoever|Whatever|Whichever|Whose)( |$)`)

// TestComments reports sentences that open with a bare "Who" or "What" clause, and
// long functions without a comment.
func TestComments(t *testing.T) {
	const long = 25
	var clauses, silent []string
	for _, s := range sources(t, "pkg", "cmd", "test", "examples") {
		for _, g := range s.ast.Comments {
			for _, c := range g.List {
				for i, line := range strings.Split(c.Text, "\n") {
					if text := strings.Trim(line, "/* \t"); bare.MatchString(text) {
						clauses = append(clauses, fmt.Sprintf("%s:%d: name the actor: %s", s.path, s.line(c.Pos())+i, text))
					}
				}
			}
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && !s.test() && f.Doc == nil && s.line(f.End())-s.line(f.Pos())+1 > long {
				silent = append(silent, fmt.Sprintf("%s:%d: %s has more than %d lines and no comment", s.path, s.line(f.Pos()), f.Name.Name, long))
			}
		}
	}
	atMost(t, 0, clauses)
	atMost(t, 0, silent)
	t.Logf("%d bare clauses, %d long functions without a comment", len(clauses), len(silent))
}

func TestSizes(t *testing.T) {
	for _, s := range sources(t, "pkg", "cmd", "test") {
		if n := s.line(s.ast.End()); n > maxFileLines && !s.test() {
			t.Errorf("%s has %d lines; %d is the most: split it by ideas", s.path, n, maxFileLines)
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || s.test() {
				continue
			}
			if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > maxFunctionLine {
				t.Errorf("%s:%d: %s has %d lines; %d is the most", s.path, s.line(f.Pos()), f.Name.Name, n, maxFunctionLine)
			}
			if n := f.Type.Params.NumFields(); n > maxParameters && exceptions()[s.path+" "+f.Name.Name] == "" {
				t.Errorf("%s:%d: %s has %d parameters; %d is the most: use a struct",
					s.path, s.line(f.Pos()), f.Name.Name, n, maxParameters)
			}
		}
	}
}

// exceptions are functions that may have more parameters, each with its reason.
func exceptions() map[string]string {
	return map[string]string{
		"pkg/query/engine.go NewRangeQuery":      "the interface promql.QueryEngine requires it",
		"pkg/receive/remotewrite/otlp.go Append": "the interface storage.AppenderV2 requires it",
	}
}

func TestForbidden(t *testing.T) {
	for _, s := range sources(t, "pkg", "cmd") {
		if s.test() {
			continue
		}
		for _, name := range []string{"util", "utils", "common", "helper", "helpers", "manager"} {
			if path.Base(path.Dir(s.path)) == name {
				t.Errorf("%s: %q is no name for a package: name its idea", s.path, name)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if why := forbidden(s, n); why != "" {
				t.Errorf("%s:%d: %s", s.path, s.line(n.Pos()), why)
			}
			return true
		})
		for _, d := range s.ast.Decls {
			if why := forbiddenDecl(d); why != "" {
				t.Errorf("%s:%d: %s", s.path, s.line(d.Pos()), why)
			}
		}
	}
}

func forbidden(s source, n ast.Node) string {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return ""
	}
	if f, ok := call.Fun.(*ast.Ident); ok && (f.Name == "print" || f.Name == "println") {
		return f.Name + ": write to the logger"
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	name := x.Name + "." + sel.Sel.Name
	switch {
	case (name == "context.Background" || name == "context.TODO") && strings.HasPrefix(s.path, "pkg/"):
		return name + ": take the context of the caller, so that cancelling reaches here"
	case name == "os.Exit" && s.path != "cmd/hindsight/main.go":
		return "os.Exit: only main ends the process"
	case x.Name == "promauto" && sel.Sel.Name != "With":
		return name + ": metrics go to the registerer that was given"
	}
	return ""
}

func forbiddenDecl(d ast.Decl) string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.Name == "init" {
			return "func init: call it where it is needed"
		}
	case *ast.GenDecl:
		if d.Tok != token.VAR || embedded(d) {
			return ""
		}
		for _, spec := range d.Specs {
			v := spec.(*ast.ValueSpec)
			for i, name := range v.Names {
				if !constant(v, i) {
					return fmt.Sprintf("var %s: state belongs to a value with an owner", name.Name)
				}
			}
		}
	}
	return ""
}

// embedded reports whether a variable holds an embedded file, which must be a package
// variable.
func embedded(d *ast.GenDecl) bool {
	return d.Doc != nil && strings.HasPrefix(d.Doc.List[len(d.Doc.List)-1].Text, "//go:embed ")
}

// constant reports whether a package variable stands for a constant of a type that has
// none in Go: errors, tables, compiled expressions, assertions.
func constant(v *ast.ValueSpec, i int) bool {
	if v.Names[i].Name == "_" {
		return true
	}
	if i >= len(v.Values) {
		return false
	}
	switch x := v.Values[i].(type) {
	case *ast.CompositeLit, *ast.BasicLit, *ast.FuncLit:
		return true
	case *ast.CallExpr:
		switch f := x.Fun.(type) {
		case *ast.SelectorExpr:
			pkg, ok := f.X.(*ast.Ident)
			return ok && slices.Contains([]string{"errors", "fmt", "regexp", "crc32", "labels", "status", "template", "errorid"}, pkg.Name)
		case *ast.ArrayType: // a conversion such as []byte("x")
			return true
		}
	}
	return false
}
