package promapi

import (
	"fmt"
	"net/http"

	"github.com/prometheus/prometheus/promql/parser"
)

// maxPrinting bounds the cost of printing an expression over several lines: its
// length times the square of its depth, for the printer writes each part once
// for every part around it, to see whether it fits on a line, and so on below.
// It takes about a second.
const maxPrinting = 1_000_000_000

// printable refuses expressions that take long to print. Printing cannot be
// cancelled, so it must not begin. The next handler refuses an invalid query.
func (a *API) printable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := parseForm(r); err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		text := r.Form.Get("query")
		expr, err := a.cfg.Parser.ParseExpr(text)
		if err == nil {
			if n := depth(expr); n*n*len(text) > maxPrinting {
				writeError(w, http.StatusBadRequest, "bad_data", fmt.Errorf(
					"invalid parameter \"query\": an expression of %d bytes and %d levels is too large to be formatted", len(text), n))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// depth is the number of levels of the tree.
func depth(n parser.Node) int {
	d := 0
	for child := range parser.ChildrenIter(n) {
		d = max(d, depth(child))
	}
	return d + 1
}
