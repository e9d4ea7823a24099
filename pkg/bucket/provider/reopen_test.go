package provider

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// TestReopening_SeldomForOneForbiddenObject asks for a forbidden object, such as one that
// was archived, beside others once a minute for a day. The bucket is not opened again each
// time, and the log tells of it once; when all is refused, it is opened after 30 s.
func TestReopening_SeldomForOneForbiddenObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := bucket.NewMemory()
		for _, name := range []string{"open", "archived"} {
			require.NoError(t, store.Upload(t.Context(), name, bytes.NewReader([]byte("x")), 1))
		}
		generation, valid, opened := 0, 0, 0
		open := func(context.Context) (bucket.Bucket, error) {
			opened++
			mine := generation
			return buckettest.NewFaulty(store, func(op buckettest.Op) buckettest.Fault {
				if op.Name == "archived" || mine != valid {
					return buckettest.Fault{Err: bucket.ErrAccessDenied}
				}
				return buckettest.Fault{}
			}), nil
		}
		first, err := open(t.Context())
		require.NoError(t, err)
		var logs bytes.Buffer
		b := newReopening(first, slog.New(slog.NewTextHandler(&logs, nil)), open)
		stat := func(name string) error {
			_, err := b.Stat(t.Context(), name)
			return err
		}
		for range 24 * 60 {
			require.NoError(t, stat("open"))
			require.ErrorIs(t, stat("archived"), bucket.ErrAccessDenied)
			time.Sleep(time.Minute)
			require.NoError(t, stat("open"))
		}
		require.LessOrEqual(t, opened, 1+24)
		require.Equal(t, 1, bytes.Count(logs.Bytes(), []byte("\n")), logs.String())

		generation, valid = 1, 1 // the credentials are rotated
		time.Sleep(reopenInterval)
		require.NoError(t, stat("open"))
		require.NoError(t, b.Close())
	})
}
