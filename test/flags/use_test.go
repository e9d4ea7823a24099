// Package flags holds the test that compares each flag of the program with its
// use: the help of a flag whose value is not read must say so.
package flags

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/program"
)

// checked is one package of the program with its types.
type checked struct{ *program.Package }

// registration is one call that registers a flag.
type registration struct {
	name     string
	ignored  bool         // its help says that it has no effect
	refused  bool         // its help says that it is refused
	variable types.Object // the variable or field that holds the value
	at       token.Position
	in       *ast.FuncDecl
}

// A value counts as used when it is read outside of its registration and its check.
func TestFlags_EachValueIsUsedOrDocumentedAsIgnored(t *testing.T) {
	prog, err := program.Load()
	require.NoError(t, err)
	var all []checked
	for _, p := range prog.Packages {
		if !p.Test && !strings.HasPrefix(p.Path, "test/") {
			all = append(all, checked{p})
		}
	}
	var regs []registration
	for _, p := range all {
		regs = append(regs, p.registrations(prog.Fset)...)
	}
	require.Greater(t, len(regs), 200, "registrations of flags are not recognised")
	uses := map[types.Object]int{}
	for _, p := range all {
		p.count(uses, regs)
	}
	for _, r := range regs {
		switch {
		case r.variable == nil:
			t.Errorf("%s: the variable of --%s is not recognised", r.at, r.name)
		case uses[r.variable] == 0 && !r.ignored && !r.refused:
			t.Errorf("%s: no code reads the value of --%s: register it with flags.Ignored", r.at, r.name)
		}
	}
}

// registrations finds the calls of Flag, and of methods called Register that
// register a pair of flags, with the variables that they fill.
func (c checked) registrations(fset *token.FileSet) []registration {
	var out []registration
	for _, f := range c.Files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if r, ok := c.registration(call); ok {
					r.in, r.at = fn, fset.Position(call.Pos())
					out = append(out, r)
					return false
				}
				return true
			})
		}
	}
	return out
}

// registration recognises r.Flag(name, help)....XVar(&variable, ...) and
// variable.Register(r, name, help, ...).
func (c checked) registration(call *ast.CallExpr) (registration, bool) {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return registration{}, false
	}
	if strings.HasPrefix(sel.Sel.Name, "Register") && len(call.Args) >= 3 && c.text(call.Args[1]) != "" {
		if _, isFlags := c.Info.TypeOf(call.Args[0]).Underlying().(*types.Interface); isFlags {
			ignored := sel.Sel.Name == "RegisterIgnored"
			return registration{name: c.text(call.Args[1]), ignored: ignored, refused: c.isRefused(call.Args[2]), variable: c.variable(sel.X)}, true
		}
	}
	flag := flagCall(sel.X)
	if flag == nil || len(call.Args) == 0 {
		return registration{}, false
	}
	name := c.text(flag.Args[0])
	if name == "" {
		name = fmt.Sprintf("<made of %T>", flag.Args[0])
	}
	return registration{
		name: name, ignored: c.isIgnored(flag.Args[1]), refused: c.isRefused(flag.Args[1]), variable: c.variable(call.Args[0]),
	}, true
}

// isRefused recognises the help of a flag that is read only to refuse it.
func (c checked) isRefused(help ast.Expr) bool {
	return strings.Contains(strings.ToLower(c.text(help)), "refuse")
}

// isIgnored recognises flags.Ignored(reason), also where a local variable holds
// it.
func (c checked) isIgnored(help ast.Expr) bool {
	switch e := help.(type) {
	case *ast.CallExpr:
		sel, ok := e.Fun.(*ast.SelectorExpr)
		return ok && sel.Sel.Name == "Ignored"
	case *ast.Ident:
		return e.Name == "ignored"
	}
	return false
}

// flagCall returns the call of Flag at the start of a chain of calls.
func flagCall(e ast.Expr) *ast.CallExpr {
	for {
		call, ok := e.(*ast.CallExpr)
		if !ok {
			return nil
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return nil
		}
		if sel.Sel.Name == "Flag" && len(call.Args) == 2 {
			return call
		}
		e = sel.X
	}
}

func (c checked) text(e ast.Expr) string {
	if v := c.Info.Types[e].Value; v != nil && v.Kind() == constant.String {
		return constant.StringVal(v)
	}
	return ""
}

// variable is the innermost field or variable of &x.y.z, x.y.z or x.y[i].
func (c checked) variable(e ast.Expr) types.Object {
	switch e := e.(type) {
	case *ast.UnaryExpr:
		return c.variable(e.X)
	case *ast.CallExpr: // a conversion such as (*Bytes)(&c.Size)
		if len(e.Args) == 1 {
			return c.variable(e.Args[0])
		}
	case *ast.ParenExpr:
		return c.variable(e.X)
	case *ast.IndexExpr:
		return c.variable(e.X)
	case *ast.SelectorExpr:
		return c.Info.Uses[e.Sel]
	case *ast.Ident:
		return c.Info.Uses[e]
	}
	return nil
}

// count counts the uses of each variable outside the functions that register
// flags and those that only check them.
func (c checked) count(uses map[types.Object]int, regs []registration) {
	for _, f := range c.Files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				if strings.EqualFold(fn.Name.Name, "validate") {
					continue
				}
				if slices.ContainsFunc(regs, func(r registration) bool { return r.in == fn }) {
					c.countLocals(uses, fn)
					continue
				}
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					if v, ok := c.Info.Uses[id].(*types.Var); ok {
						uses[v]++
					}
				}
				return true
			})
		}
	}
}

// countLocals counts the uses of local variables in a function that registers
// flags, as the functions do that make a command and run it.
func (c checked) countLocals(uses map[types.Object]int, fn *ast.FuncDecl) {
	ast.Inspect(fn, func(n ast.Node) bool {
		lit, ok := n.(*ast.FuncLit)
		if !ok {
			return true
		}
		ast.Inspect(lit, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				if v, ok := c.Info.Uses[id].(*types.Var); ok {
					uses[v]++
				}
			}
			return true
		})
		return false
	})
}
