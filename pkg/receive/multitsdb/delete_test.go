package multitsdb

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// TestDelete_RemovesFromHeadAndBlocks deletes a series of one tenant that has samples in a
// block and in the head, and opens the storage again.
func TestDelete_RemovesFromHeadAndBlocks(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().UnixMilli()
	d := openDB(t, dir, nil)
	for _, id := range []string{"a", "b"} {
		require.NoError(t, write(t, d, id, float("secret", now, 1), float("up", now, 1)))
	}
	require.NoError(t, d.all()[0].head.Flush(t.Context()))
	for _, id := range []string{"a", "b"} {
		require.NoError(t, write(t, d, id, float("secret", now+1, 2), float("up", now+1, 2)))
	}
	match := func(name, value string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, name, value) }
	done := map[string]bool{}
	del := Deletion{Matchers: [][]*labels.Matcher{{match("__name__", "secret"), match("tenant_id", "a")}}, MinTime: math.MinInt64, MaxTime: now + 1}
	require.NoError(t, d.Delete(t.Context(), del, done))
	require.Equal(t, map[string]bool{"a": true, "b": true}, done)
	secrets := func(d *DB) (out []string) {
		for _, line := range dump(t, d) {
			if strings.Contains(line, "secret") {
				out = append(out, line)
			}
		}
		return out
	}
	require.Len(t, secrets(d), 2, "those of tenant b")
	require.NotContains(t, secrets(d)[0], `tenant_id="a"`)
	require.Len(t, dump(t, d), 6)
	require.Len(t, d.HiddenBlocks(math.MinInt64, math.MaxInt64), 1)
	// The series goes on after the deleted time.
	require.NoError(t, write(t, d, "a", float("secret", now+2, 3)))
	require.NoError(t, d.Delete(t.Context(), del, done))
	require.Len(t, secrets(d), 3)

	// External labels alone delete all series of the tenant.
	all := Deletion{Matchers: [][]*labels.Matcher{{match("tenant_id", "b")}}, MinTime: math.MinInt64, MaxTime: now + 1}
	require.NoError(t, d.Delete(t.Context(), all, map[string]bool{}))
	require.Len(t, dump(t, d), 3)
	require.NoError(t, d.Close(t.Context()))
	require.Len(t, dump(t, openDB(t, dir, nil)), 3, "deleted samples stay deleted after a restart")
}
