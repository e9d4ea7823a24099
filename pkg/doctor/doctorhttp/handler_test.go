package doctorhttp

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// counted counts the listings of a bucket, and fails them with err, if set.
type counted struct {
	bucket.Reader
	lists int
	err   error
}

func (c *counted) List(ctx context.Context, prefix string, f func(bucket.Object) error) error {
	c.lists++
	if c.err != nil {
		return c.err
	}
	return c.Reader.List(ctx, prefix, f)
}

func poll(t *testing.T, b bucket.Bucket) *blocklist.View {
	t.Helper()
	v, err := blocklist.NewPoller(b, blocklist.Config{Logger: slog.New(slog.DiscardHandler)}).Poll(t.Context())
	require.NoError(t, err)
	return v
}

// ask returns the status of an answer, the kinds and subjects of its findings, and the error.
func ask(t *testing.T, h *Handler) (code int, found []string, problem string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/blocks/findings", nil))
	var out struct {
		Data  answer
		Error string
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out), w.Body.String())
	require.Equal(t, len(out.Data.Findings), out.Data.Total)
	for _, f := range out.Data.Findings {
		found = append(found, f.Kind+" "+f.Subject)
	}
	return w.Code, found, out.Error
}

func TestHandler_ListsFindingsAndReadsTheBucketOncePerListing(t *testing.T) {
	b := bucket.NewMemory()
	blocktest.Fill(t, b, `
meta a range=0h..2h labels={cluster="eu"} samples=10 level=1
meta b range=0h..2h labels={cluster="eu"} samples=11 level=1
meta c range=0h..2h labels={cluster="us"} samples=10 level=1
meta d range=0h..2h labels={cluster="us"} samples=11 level=1
mark d deletion at=3h
`)
	reads, view := &counted{Reader: b}, (*blocklist.View)(nil)
	h := New(reads, func() *blocklist.View { return view }, nil)
	code, _, problem := ask(t, h)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "the bucket has not been listed yet", problem)

	view = poll(t, b)
	reads.err = errors.New("no route")
	code, _, problem = ask(t, h)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, problem, "no route")

	reads.err, reads.lists = nil, 0
	for range 3 {
		code, found, _ := ask(t, h)
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, []string{`equal_labels {cluster="eu"}`}, found, "the other block is marked for deletion")
	}
	require.Equal(t, 2, reads.lists, "claims and logs are listed once")

	blocktest.Fill(t, b, `meta e range=0h..2h labels={cluster="us"} samples=12 level=1`)
	view = poll(t, b)
	_, found, _ := ask(t, h)
	require.Equal(t, []string{`equal_labels {cluster="eu"}`, `equal_labels {cluster="us"}`}, found)
}
