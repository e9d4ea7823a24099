package promapi

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
)

// deadlines counts the deadlines for writes to a connection.
type deadlines struct {
	*httptest.ResponseRecorder
	n int
}

func (d *deadlines) SetWriteDeadline(time.Time) error {
	d.n++
	return nil
}

// The size of a result is counted without the connection: the answer that has it is
// still to be sent when the context ends.
func TestEncodedSize_LeavesTheConnectionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		ctx, cancel := context.WithCancel(withConnection(t.Context(), conn))
		n, err := encodedSize(ctx, &promql.Result{Value: promql.Scalar{T: 1000, V: 1}})
		require.NoError(t, err)
		require.Positive(t, n)
		cancel()
		synctest.Wait()
		require.Zero(t, conn.n)
	})
}
