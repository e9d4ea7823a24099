package provider

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// TestList_StoppedListingLeavesNoGoroutine stops in the middle of a listing that
// has always one more page.
func TestList_StoppedListingLeavesNoGoroutine(t *testing.T) {
	page := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page++
		w.Header().Set("Content-Type", "application/xml")
		fmt.Fprintf(w, `<ListBucketResult><Name>things</Name><IsTruncated>true</IsTruncated><NextContinuationToken>t%d</NextContinuationToken>`, page)
		for i := range 10 {
			fmt.Fprintf(w, `<Contents><Key>%06d/%d</Key><Size>7</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>`, page, i)
		}
		fmt.Fprint(w, `</ListBucketResult>`)
	}))
	defer srv.Close()
	yml := "type: S3\nconfig: {bucket: things, region: us-east-1, insecure: true, access_key: a, secret_key: b, http_config: {idle_conn_timeout: 10ms}, endpoint: " +
		strings.TrimPrefix(srv.URL, "http://") + "}"
	b, err := Open(t.Context(), []byte(yml), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	before := goleak.IgnoreCurrent()
	stop := errors.New("stop")
	for range 5 {
		seen := 0
		err = b.List(t.Context(), "", func(o bucket.Object) error {
			require.False(t, o.LastModified.IsZero())
			if seen++; seen == 25 {
				return stop
			}
			return nil
		})
		require.ErrorIs(t, err, stop)
	}
	srv.CloseClientConnections()
	goleak.VerifyNone(t, before)
}
