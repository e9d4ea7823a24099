package compact_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/block/markhttp"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// postMark marks a block for deletion over HTTP.
func postMark(t *testing.T, h http.Handler, name string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	form := url.Values{"id": {blocktest.ID(name).String()}, "action": {"DELETION"}, "detail": {"by hand"}}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/blocks/mark", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	h.ServeHTTP(w, r)
	return w
}

// holding is a bucket that holds the first upload of a meta.json, while other requests go on.
type holding struct {
	*bucket.Memory
	once          sync.Once
	began, resume chan struct{}
}

func (h *holding) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	if strings.HasSuffix(name, "/"+block.MetaFile) {
		h.once.Do(func() {
			close(h.began)
			<-h.resume
		})
	}
	return h.Memory.Upload(ctx, name, r, size)
}

// TestMarkOverHTTP_WaitsForTheCompactorOfTheGroup marks blocks beside a compactor that merges
// one group: a mark of one of its sources would be lost, because the result has its samples.
// The compactor is another process, or the one that serves the API itself.
func TestMarkOverHTTP_WaitsForTheCompactorOfTheGroup(t *testing.T) {
	for _, own := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := blocktest.Bucket(t, crashBucket())
			blocktest.Fill(t, b, "block other range=0h..2h labels={cluster=\"us\",replica=\"a\"}\n  m 0m:1\n")
			paused := &holding{Memory: b, began: make(chan struct{}), resume: make(chan struct{})}
			c := newCompactor(t, paused, crashFlags...)
			done := make(chan error, 1)
			go func() { done <- c.RunOnce(t.Context()) }()
			<-paused.began
			ahead := func(context.Context) (time.Time, error) { return time.Now().Add(time.Hour), nil }
			var h http.Handler = markhttp.Handler{Bucket: b, Guard: compact.MarkGuard(b, ahead, slog.New(slog.DiscardHandler))}
			if own {
				mux := http.NewServeMux()
				c.RegisterAPI(mux)
				h = mux
			}
			require.Equal(t, http.StatusNoContent, postMark(t, h, "other").Code, "another group is free")
			began := time.Now()
			w := postMark(t, h, "a00")
			require.Equal(t, http.StatusConflict, w.Code)
			require.Contains(t, w.Body.String(), "hs-lease-conflict")
			require.InDelta(t, 10, time.Since(began).Seconds(), 3, "a client waits")
			require.ErrorIs(t, block.ReadMark(t.Context(), b, blocktest.ID("a00"), &block.DeletionMark{}), bucket.ErrNotFound)
			require.Equal(t, http.StatusNotFound, postMark(t, h, "none").Code)

			close(paused.resume)
			require.NoError(t, <-done)
			require.Equal(t, http.StatusNotFound, postMark(t, h, "a00").Code, "it was merged and deleted")
			var mark block.DeletionMark
			if !own {
				require.NoError(t, block.ReadMark(t.Context(), b, blocktest.ID("other"), &mark))
				require.Greater(t, mark.DeletionTime, time.Now().Unix(), "the delay is measured by the clock of the bucket")
			}
		})
	}
}

// unconditional is a bucket without conditional writes.
type unconditional struct{ bucket.Bucket }

// TestMarkOverHTTP_WithoutConditionalWrites marks at once: a second owner of leases would stop
// the only compactor.
func TestMarkOverHTTP_WithoutConditionalWrites(t *testing.T) {
	b := blocktest.Bucket(t, "block a range=0h..2h labels={cluster=\"eu\"}\n  m 0m:1\n")
	now := func(context.Context) (time.Time, error) { return time.Now(), nil }
	h := markhttp.Handler{Bucket: b, Guard: compact.MarkGuard(unconditional{b}, now, slog.New(slog.DiscardHandler))}
	require.Equal(t, http.StatusNoContent, postMark(t, h, "a").Code)
	require.NoError(t, b.List(t.Context(), "hindsight", func(o bucket.Object) error {
		require.Fail(t, "a lease or heartbeat was written", o.Name)
		return nil
	}))
}
