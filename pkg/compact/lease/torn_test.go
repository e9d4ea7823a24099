package lease

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// torn answers one read of an object with its content before the last write and the version
// after it, as a server may that keeps both apart.
type torn struct {
	bucket.Conditional
	old  []byte
	once bool
}

func (b *torn) GetVersion(ctx context.Context, name string, most int64) ([]byte, bucket.Version, error) {
	content, v, err := b.Conditional.GetVersion(ctx, name, most)
	if err == nil && !b.once && b.old != nil {
		b.once = true
		return b.old, v, nil
	}
	return content, v, err
}

func TestReadSettled_DoesNotBelieveATornRead(t *testing.T) {
	mem := bucket.NewMemory()
	b := &torn{Conditional: mem}
	m := &Manager{cond: b, cfg: Config{Logger: slog.New(slog.DiscardHandler)}}
	put := func(r *record, at bucket.Version) bucket.Version {
		content, err := encode(r)
		require.NoError(t, err)
		v, err := mem.PutIf(t.Context(), "l", content, at)
		require.NoError(t, err)
		return v
	}
	released := next(nil, "l", "", "h", "n1")
	v := put(released, bucket.NoVersion)
	b.old, _ = encode(released)
	taken := next(released, "l", "A", "h", "n2")
	v = put(taken, v)
	r, at, err := m.readSettled(t.Context(), "l")
	require.NoError(t, err)
	require.Equal(t, "A", r.Owner, "the lease has been given to another one")
	require.Equal(t, v, at)
	r, _, err = m.readSettled(t.Context(), "none")
	require.NoError(t, err)
	require.Nil(t, r)
}
