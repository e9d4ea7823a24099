// Package flags holds the test that compares each flag of the program with its
// use: a flag whose value nothing reads must say so in its help.
package flags

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
)

const module = "github.com/hindsight-io/hindsight/"

// checked is one package of the program with its types.
type checked struct {
	files []*ast.File
	info  *types.Info
}

// listed is what `go list -json` says about a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// program type-checks the packages of this module that the command is made of.
// They share the objects of types.Info, so that a field is the same object
// wherever it is used.
func program(fset *token.FileSet) ([]checked, error) {
	var errs bytes.Buffer
	cmd := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Dir,Export,GoFiles", module+"cmd/hindsight")
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the packages of the program: %w: %s", err, errs.String())
	}
	l := loader{fset: fset, exports: map[string]string{}, own: map[string]*types.Package{}}
	l.others = importer.ForCompiler(fset, "gc", l.open)
	var all []checked
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("read the list of packages: %w", err)
		}
		l.exports[p.ImportPath] = p.Export
		if !strings.HasPrefix(p.ImportPath, module) {
			continue
		}
		c, err := l.check(p)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
}

type loader struct {
	fset    *token.FileSet
	exports map[string]string
	own     map[string]*types.Package
	others  types.Importer
}

func (l *loader) open(path string) (io.ReadCloser, error) { return os.Open(l.exports[path]) }

// Import implements types.Importer.
func (l *loader) Import(path string) (*types.Package, error) {
	if p := l.own[path]; p != nil {
		return p, nil
	}
	return l.others.Import(path)
}

func (l *loader) check(p listed) (checked, error) {
	c := checked{info: &types.Info{
		Uses:       map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
		Types:      map[ast.Expr]types.TypeAndValue{},
	}}
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(l.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return c, fmt.Errorf("parse %s: %w", name, err)
		}
		c.files = append(c.files, f)
	}
	config := types.Config{Importer: l}
	pkg, err := config.Check(p.ImportPath, l.fset, c.files, c.info)
	if err != nil {
		return c, fmt.Errorf("check %s: %w", p.ImportPath, err)
	}
	l.own[p.ImportPath] = pkg
	return c, nil
}
