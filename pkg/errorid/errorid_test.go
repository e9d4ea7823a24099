package errorid

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write docs/errors.md")

// constants returns the ids of ids.go, in their order.
func constants(t *testing.T) (ids []ID) {
	f, err := parser.ParseFile(token.NewFileSet(), "ids.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			id, err := strconv.Unquote(lit.Value)
			require.NoError(t, err)
			ids = append(ids, ID(id))
		}
		return true
	})
	return ids
}

// Each id has one page with a title, what it means and what to do, and each page is of an
// id. Ids are of the form that Split knows.
func TestPages_EachIDHasOne(t *testing.T) {
	var pages []ID
	for _, p := range Pages() {
		pages = append(pages, p.ID)
		require.NotEmpty(t, p.Title, p.ID)
		require.Contains(t, p.Text, "**Meaning:** ", p.ID)
		require.Contains(t, p.Text, "**Do:** ", p.ID)
		require.NotContains(t, p.Text, "\n# ", p.ID)
		text, id := Split(Text("x", p.ID))
		require.Equal(t, "x", text)
		require.Equal(t, p.ID, id)
	}
	require.ElementsMatch(t, constants(t), pages)
	require.Len(t, pages, len(constants(t)))
}

// docs/errors.md is made of the pages: go test ./pkg/errorid -update.
func TestPages_DocumentIsCurrent(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Ids of errors

Each error that the program shows has an id that begins with ` + "`hs-`" + `. It is at the end of
the text in brackets, in the header ` + "`" + Header + "`" + ` and the field ` + "`errorId`" + ` of HTTP answers, and
under the key ` + "`id`" + ` of warnings and errors in logs. Ids are never renamed.

This page is also in the program: ` + "`hindsight tools explain-error <id>`" + ` prints a part of it, and each
process serves it at ` + "`" + Path + "<id>`" + `. It is made from [pages.txt](../pkg/errorid/pages.txt).

`)
	for _, p := range Pages() {
		fmt.Fprintf(&b, "- [%s](#%s): %s\n", p.ID, p.ID, p.Title)
	}
	_, groups, ok := strings.Cut(pages, "\n# ")
	require.True(t, ok)
	for part := range strings.SplitSeq("# "+groups, "\n") {
		switch id, title, isPage := strings.Cut(strings.TrimPrefix(part, "## "), ": "); {
		case strings.HasPrefix(part, "# "):
			b.WriteString("\n#" + part + "\n")
		case strings.HasPrefix(part, heading) && isPage:
			fmt.Fprintf(&b, "\n### %s\n\n*%s*\n", id, title)
		default:
			b.WriteString(part + "\n")
		}
	}
	text := strings.TrimSpace(strings.ReplaceAll(b.String(), "\n\n\n", "\n\n")) + "\n"
	file := filepath.Join("..", "..", "docs", "errors.md")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	have, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, text, string(have), "run: go test ./pkg/errorid -update")
}

func TestOf_IsTheMostSpecific(t *testing.T) {
	general := Sentinel(StoreUnavailable, "unavailable")
	limit := Sentinel(LimitQuerySeries, "limit")
	for _, c := range []struct {
		name string
		err  error
		want ID
	}{
		{"nil", nil, ""},
		{"nothing known", errors.New("x"), ""},
		{"a wrapped one", fmt.Errorf("read: %w", limit), LimitQuerySeries},
		{"the outermost of two", With(StoreLimit, limit), StoreLimit},
		{"a cause below a general one", fmt.Errorf("%w: %w", general, limit), LimitQuerySeries},
		{"a cause before a general one", errors.Join(limit, general), LimitQuerySeries},
		{"a general one alone", fmt.Errorf("x: %w", general), StoreUnavailable},
		{"the system below a general one", With(WriteUnavailable, &fs.PathError{Op: "write", Err: syscall.ENOSPC}), DiskFull},
		{"the system alone", &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist}, FileMissing},
		{"a specific one above the system", With(BlockUploadOpen, context.DeadlineExceeded), BlockUploadOpen},
		{"a deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), Timeout},
	} {
		require.Equal(t, c.want, Of(c.err), c.name)
	}
	require.ErrorIs(t, With(Timeout, general), general)
	require.NoError(t, With(Timeout, nil))
}

// The text of another process keeps its id over any number of processes, once.
func TestText_TravelsWithItsID(t *testing.T) {
	text := TextOf(fmt.Errorf("ask the store: %w", Sentinel(StoreTimeout, "silent")))
	require.Equal(t, "ask the store: silent [hs-store-timeout]", text)
	got := Received(text)
	require.EqualError(t, got, "ask the store: silent")
	require.Equal(t, StoreTimeout, Of(got))
	require.Equal(t, "querier: ask the store: silent [hs-store-timeout]", TextOf(fmt.Errorf("querier: %w", got)))
	require.Equal(t, text, Text(text, QueryFailed), "a text has one id")

	cause := errors.New("rpc error: " + text)
	require.EqualError(t, Strip(cause), "rpc error: ask the store: silent")
	require.ErrorIs(t, Strip(cause), cause)
	require.Equal(t, StoreTimeout, Of(Strip(cause)))
	plain := errors.New("x")
	require.Same(t, plain, Strip(plain))
	require.Equal(t, "x [hs-internal]", TextOf(plain))
	for _, hostile := range []string{"x [hs-A]", "x [hs-a\r\nb: c]", "x [hs-" + strings.Repeat("a", 64) + "]", "x [hs-a", "]", "x [a]"} {
		_, id := Split(hostile)
		require.Empty(t, id, hostile)
	}
}

func TestHandler_GivesEachErrorAnID(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /own", func(w http.ResponseWriter, _ *http.Request) { Answer(w, http.StatusConflict, WriteConflict, "no") })
	mux.HandleFunc("GET /json", func(w http.ResponseWriter, _ *http.Request) {
		AnswerJSON(w, http.StatusBadRequest, "bad_data", "", "no")
	})
	mux.HandleFunc("GET /good", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "good") })
	mux.Handle("GET "+Path+"{id}", http.HandlerFunc(Serve))
	h := Handler(mux)
	for _, c := range []struct {
		method, path string
		code         int
		id           ID
		body         string
	}{
		{"GET", "/absent", 404, HTTPNotFound, ""},
		{"PUT", "/own", 405, HTTPMethod, ""},
		{"GET", "/own", 409, WriteConflict, "no [hs-write-conflict]\n"},
		{"GET", "/json", 400, BadRequest, `{"error":"no","errorId":"hs-bad-request","errorType":"bad_data","status":"error"}` + "\n"},
		{"GET", "/good", 200, "", "good"},
		{"GET", Path + "hs-nothing", 404, HTTPNotFound, ""},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		require.Equal(t, c.code, w.Code, c.path)
		require.Equal(t, c.id.String(), w.Header().Get(Header), c.path)
		if c.body != "" {
			require.Equal(t, c.body, w.Body.String())
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"hs-disk-full", nil))
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), "hs-disk-full: a disk is full\n")
}

// A request that succeeds costs no allocation.
func TestHandler_AllocatesNothing(t *testing.T) {
	h := Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	w, r := quietWriter{http.Header{}}, httptest.NewRequest(http.MethodPost, "/api/v1/receive", nil)
	require.Zero(t, testing.AllocsPerRun(100, func() { h.ServeHTTP(w, r) }))
}

type quietWriter struct{ h http.Header }

func (w quietWriter) Header() http.Header       { return w.h }
func (quietWriter) Write(b []byte) (int, error) { return len(b), nil }
func (quietWriter) WriteHeader(int)             {}
