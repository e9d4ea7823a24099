// Package program type-checks the packages of this module, for the tests that
// reason about the whole program: test/arch and test/flags.
package program

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Module is the path of the module, with a slash at its end.
const Module = "github.com/hindsight-io/hindsight/"

// Package is one package of the module with its types.
type Package struct {
	Path  string // import path below Module, such as pkg/storeapi
	Dir   string
	Files []*ast.File
	Types *types.Package
	Info  *types.Info
	// Test is true for the files of a package's tests. They are checked a second
	// time together with the package, so their objects are not those of the
	// package that others import: compare them by name.
	Test bool
}

// Program is all packages of the module, dependencies first.
type Program struct {
	Fset     *token.FileSet
	Packages []*Package
	// Imported are all packages that the module imports, its own included.
	Imported []*types.Package
}

// Load type-checks the packages of the module, with their tests, once for all
// callers in this process. Errors in test files are ignored: such a file may
// see two versions of the package that it belongs to.
var Load = sync.OnceValues(load)

// listed is the part of the output of `go list -json` that is used here.
type listed struct {
	ImportPath, Dir, Export            string
	GoFiles, TestGoFiles, XTestGoFiles []string
	TestImports, XTestImports          []string
}

// load lists the packages with the go command, then checks those of this module from
// their sources and imports the others from export data.
func load() (*Program, error) {
	l := loader{
		fset: token.NewFileSet(), exports: map[string]string{}, own: map[string]*types.Package{},
		imported: map[string]*types.Package{},
	}
	l.others = importer.ForCompiler(l.fset, "gc", l.open)
	ours, err := l.list(Module + "...")
	if err != nil {
		return nil, err
	}
	// Packages that only tests import.
	var more []string
	for _, p := range ours {
		for _, imp := range append(p.TestImports, p.XTestImports...) {
			if _, ok := l.exports[imp]; !ok && imp != "C" && imp != "unsafe" {
				l.exports[imp] = ""
				more = append(more, imp)
			}
		}
	}
	if len(more) > 0 {
		if _, err := l.list(more...); err != nil {
			return nil, err
		}
	}
	out := &Program{Fset: l.fset}
	for _, p := range ours {
		checked, err := l.check(p)
		if err != nil {
			return nil, err
		}
		out.Packages = append(out.Packages, checked)
	}
	for _, p := range ours {
		out.Packages = append(out.Packages, l.checkTests(p)...)
	}
	for _, p := range l.imported {
		out.Imported = append(out.Imported, p)
	}
	return out, nil
}

type loader struct {
	fset     *token.FileSet
	exports  map[string]string // files with the types of other modules' packages, by import path
	own      map[string]*types.Package
	others   types.Importer
	imported map[string]*types.Package
}

// list remembers the export data of the packages and of all that they import,
// and returns those of this module.
func (l *loader) list(patterns ...string) ([]listed, error) {
	var errs bytes.Buffer
	args := []string{"list", "-deps", "-export", "-json=ImportPath,Dir,Export,GoFiles,TestGoFiles,XTestGoFiles,TestImports,XTestImports"}
	cmd := exec.Command("go", append(args, patterns...)...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w: %s", err, errs.String())
	}
	var ours []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return ours, nil
		case err != nil:
			return nil, fmt.Errorf("read the list of packages: %w", err)
		}
		l.exports[p.ImportPath] = p.Export
		if strings.HasPrefix(p.ImportPath, Module) {
			ours = append(ours, p)
		}
	}
}

func (l *loader) open(path string) (io.ReadCloser, error) { return os.Open(l.exports[path]) }

// Import implements types.Importer.
func (l *loader) Import(path string) (*types.Package, error) {
	if p := l.own[path]; p != nil {
		l.imported[path] = p
		return p, nil
	}
	p, err := l.others.Import(path)
	if err == nil {
		l.imported[path] = p
	}
	return p, err
}

func (l *loader) parse(dir string, names []string) ([]*ast.File, error) {
	var out []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(l.fset, filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse %s: %w", name, err)
		}
		out = append(out, f)
	}
	return out, nil
}

func (l *loader) check(p listed) (*Package, error) {
	c := newPackage(p)
	var err error
	if c.Files, err = l.parse(p.Dir, p.GoFiles); err != nil {
		return nil, err
	}
	config := types.Config{Importer: l}
	if c.Types, err = config.Check(p.ImportPath, l.fset, c.Files, c.Info); err != nil {
		return nil, fmt.Errorf("check %s: %w", p.ImportPath, err)
	}
	l.own[p.ImportPath] = c.Types
	return c, nil
}

// checkTests checks the test files inside of the package and those outside.
func (l *loader) checkTests(p listed) []*Package {
	var out []*Package
	add := func(path string, imp types.Importer, names, with []string) *types.Package {
		if len(names) == 0 {
			return nil
		}
		c := newPackage(p)
		c.Test = true
		files, err := l.parse(p.Dir, append(names, with...))
		if err != nil {
			return nil // the compiler reports it better
		}
		config := types.Config{Importer: imp, Error: func(error) {}}
		c.Types, _ = config.Check(path, l.fset, files, c.Info)
		c.Files = files[:len(names)]
		out = append(out, c)
		return c.Types
	}
	inside := add(p.ImportPath, l, p.TestGoFiles, p.GoFiles)
	add(p.ImportPath+"_test", withOne{l, p.ImportPath, inside}, p.XTestGoFiles, nil)
	return out
}

// withOne imports one package, with its tests, from memory.
type withOne struct {
	types.Importer
	path string
	pkg  *types.Package
}

func (w withOne) Import(path string) (*types.Package, error) {
	if path == w.path && w.pkg != nil {
		return w.pkg, nil
	}
	return w.Importer.Import(path)
}

func newPackage(p listed) *Package {
	return &Package{
		Path: strings.TrimPrefix(p.ImportPath, Module), Dir: p.Dir,
		Info: &types.Info{
			Defs:       map[*ast.Ident]types.Object{},
			Uses:       map[*ast.Ident]types.Object{},
			Selections: map[*ast.SelectorExpr]*types.Selection{},
			Types:      map[ast.Expr]types.TypeAndValue{},
		},
	}
}
