package markhttp

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

func TestHandler_MarksOnlyBlocksThatExist(t *testing.T) {
	b := bucket.NewMemory()
	whole, partial, unknown := ulid.MustNew(1, nil), ulid.MustNew(2, nil), ulid.MustNew(3, nil)
	put := func(name string) {
		require.NoError(t, b.Upload(t.Context(), name, strings.NewReader("{}"), 2))
	}
	put(whole.String() + "/meta.json")
	put(partial.String() + "/index")
	names := func() (out []string) {
		require.NoError(t, b.List(t.Context(), "", func(o bucket.Object) error { out = append(out, o.Name); return nil }))
		return out
	}
	post := func(h Handler, id, action string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/api/v1/blocks/mark", strings.NewReader(url.Values{"id": {id}, "action": {action}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		h.ServeHTTP(w, r)
		return w.Code
	}
	before := names()
	h := Handler{Bucket: b}
	require.Equal(t, http.StatusNotFound, post(h, unknown.String(), "DELETION"))
	require.Equal(t, http.StatusNotFound, post(h, unknown.String(), "NO_COMPACTION"))
	require.Equal(t, http.StatusBadRequest, post(h, whole.String(), "REMOVE"))
	require.Equal(t, http.StatusBadRequest, post(h, "x", "DELETION"))
	require.Equal(t, http.StatusBadRequest, post(Handler{Bucket: b, Disabled: true}, whole.String(), "DELETION"))
	require.Equal(t, before, names(), "nothing was written")
	require.Equal(t, http.StatusNoContent, post(h, whole.String(), "DELETION"))
	require.Equal(t, http.StatusNoContent, post(h, partial.String(), "NO_COMPACTION"))
	require.Contains(t, names(), whole.String()+"/"+block.DeletionMarkFile)
	require.Contains(t, names(), partial.String()+"/"+block.NoCompactMarkFile)
}
