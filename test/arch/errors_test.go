package arch

import (
	"go/ast"
	"path"
	"strings"
	"testing"
)

// Each error that leaves a process goes through errorid, so that it has an id: answers of
// HTTP servers, statuses of gRPC servers. These files pass on the status of others.
func TestErrors_LeaveWithAnID(t *testing.T) {
	passing := map[string]string{
		"pkg/errorid/http.go":                "the answers themselves",
		"pkg/requestlog/http.go":             "counts the answers of others",
		"pkg/server/tracing.go":              "notes the status of others",
		"pkg/query/promapi/printer.go":       "hands errors to writeFailed",
		"pkg/query/promapi/answer.go":        "sets the headers of all answers; write gets the header from writeFailure",
		"pkg/receive/downscale.go":           "sets the header itself: the answer is a state",
		"pkg/receive/handler.go":             "the status of a success",
		"pkg/compact/http.go":                "answers successes only",
		"pkg/store/http.go":                  "answers successes only",
		"pkg/blockstat/stathttp/handler.go":  "answers successes only",
		"pkg/doctor/doctorhttp/handler.go":   "answers successes only",
		"pkg/deletion/deletehttp/handler.go": "answers successes only",
	}
	used := map[string]bool{}
	for _, s := range sources(t, "pkg", "cmd") {
		base := path.Base(path.Dir(s.path))
		if s.test() || strings.HasSuffix(base, "test") || strings.HasSuffix(s.path, ".pb.go") {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			why := leavesWithoutID(call)
			switch {
			case why == "":
			case passing[s.path] != "":
				used[s.path] = true
			default:
				t.Errorf("%s:%d: %s: answer with errorid, so that the error has an id", s.path, s.line(n.Pos()), why)
			}
			return true
		})
	}
	for file := range passing {
		if !used[file] {
			t.Errorf("%s answers no errors past errorid: remove it from the list", file)
		}
	}
}

// leavesWithoutID returns what a call does that sends an error without an id, "" for other
// calls.
func leavesWithoutID(call *ast.CallExpr) string {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, _ := sel.X.(*ast.Ident)
	switch {
	case sel.Sel.Name == "WriteHeader" && len(call.Args) == 1:
		if status, ok := call.Args[0].(*ast.SelectorExpr); ok {
			switch status.Sel.Name {
			case "StatusOK", "StatusNoContent", "StatusNotModified":
				return ""
			}
		}
		return "WriteHeader"
	case x == nil:
		return ""
	case x.Name == "http" && (sel.Sel.Name == "Error" || sel.Sel.Name == "NotFound"):
		return "http." + sel.Sel.Name
	case x.Name == "status" && (sel.Sel.Name == "Errorf" || sel.Sel.Name == "Newf" || sel.Sel.Name == "New"):
		return "status." + sel.Sel.Name
	case x.Name == "status" && sel.Sel.Name == "Error" && len(call.Args) == 2:
		if text, ok := call.Args[1].(*ast.CallExpr); ok {
			if f, ok := text.Fun.(*ast.SelectorExpr); ok {
				if pkg, ok := f.X.(*ast.Ident); ok && pkg.Name == "errorid" {
					return ""
				}
			}
		}
		return "status.Error"
	}
	return ""
}
