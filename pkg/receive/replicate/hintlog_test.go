package replicate

import (
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

func readHints(t *testing.T, l *hintLog) (out []string) {
	for {
		r, err := l.take(l.last())
		require.NoError(t, err)
		if r == nil {
			return out
		}
		for {
			h, err := r.next()
			if errors.Is(err, io.EOF) || errors.Is(err, errHintTorn) {
				break
			}
			require.NoError(t, err)
			out = append(out, fmt.Sprintf("%s %d %s", h.tenant, h.replica, h.series))
		}
		require.NoError(t, r.close())
		require.NoError(t, l.done(r.number))
	}
}

func TestHintLog_KeepsRequestIDs(t *testing.T) {
	l, err := openHintLog(vfs.OS(), t.TempDir(), "p", 1<<20)
	require.NoError(t, err)
	for _, id := range []string{"client-1", ""} {
		_, err = l.append(Part{Tenant: "a", Replica: 1, RequestID: id, Regions: [][]byte{[]byte("x")}})
		require.NoError(t, err)
	}
	r, err := l.take(l.last())
	require.NoError(t, err)
	for _, id := range []string{"client-1", ""} {
		h, err := r.next()
		require.NoError(t, err)
		require.Equal(t, hint{tenant: "a", replica: 1, requestID: id, series: []byte("x")}, h)
	}
	require.NoError(t, r.close())
}

func TestHintLog_KeepsHintsAfterRestart(t *testing.T) {
	dir := t.TempDir()
	l, err := openHintLog(vfs.OS(), dir, "host:1/../x", 1<<20)
	require.NoError(t, err)
	_, err = l.append(Part{Tenant: "a", Replica: 2, Regions: [][]byte{[]byte("one"), []byte("two")}})
	require.NoError(t, err)
	require.NoError(t, l.close())
	l, err = openHintLog(vfs.OS(), dir, "host:1/../x", 1<<20)
	require.NoError(t, err)
	_, err = l.append(Part{Tenant: "b", Regions: [][]byte{[]byte("three")}})
	require.NoError(t, err)
	require.Equal(t, []string{"a 2 onetwo", "b 0 three"}, readHints(t, l))
	require.Zero(t, l.bytes())
	require.NoError(t, l.close())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// Thanos would open a directory that is left among those of tenants as a tenant.
func TestAdoptHints_MovesHintsOfEarlierVersions(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, ".hints")
	require.NoError(t, AdoptHints(vfs.OS(), old, dir), "there are none")
	l, err := openHintLog(vfs.OS(), dir, "p-1:2", 1<<20)
	require.NoError(t, err)
	_, err = l.append(Part{Tenant: "new", Regions: [][]byte{[]byte("x")}})
	require.NoError(t, err)
	require.NoError(t, l.close())
	for _, n := range []int64{3, 20} {
		_, err = l.append(Part{Tenant: fmt.Sprint("old", n), Regions: [][]byte{[]byte("x")}})
		require.NoError(t, err)
		require.NoError(t, l.close())
		perPeer := filepath.Join(old, url.PathEscape("p-1:2"))
		require.NoError(t, os.MkdirAll(perPeer, 0o750))
		require.NoError(t, os.Rename(l.path(l.current), filepath.Join(perPeer, fmt.Sprintf("%016d.hint", n))))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(old, "empty"), 0o750))

	require.NoError(t, AdoptHints(vfs.OS(), old, dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, e.IsDir(), e.Name())
	}
	l, err = openHintLog(vfs.OS(), dir, "p-1:2", 1<<20)
	require.NoError(t, err)
	require.Equal(t, []string{"new 0 x", "old3 0 x", "old20 0 x"}, readHints(t, l))
	require.NoError(t, AdoptHints(vfs.OS(), old, dir), "again")
}

func TestHintLog_DropsOldestAboveBound(t *testing.T) {
	l, err := openHintLog(vfs.OS(), t.TempDir(), "p", 20<<20)
	require.NoError(t, err)
	noise := make([]byte, 1<<20)
	rnd, dropped := rand.New(rand.NewSource(1)), int64(0)
	for range 60 {
		rnd.Read(noise)
		n, err := l.append(Part{Tenant: "a", Regions: [][]byte{noise}})
		require.NoError(t, err)
		dropped += n
		require.LessOrEqual(t, l.bytes(), int64(20<<20))
	}
	require.Greater(t, dropped, int64(30<<20))
	require.GreaterOrEqual(t, len(readHints(t, l)), 10)
	require.NoError(t, l.close())
}

func TestHintLog_ReadsRecordsBeforeDamage(t *testing.T) {
	rnd := rand.New(rand.NewSource(2))
	for range 200 {
		l, err := openHintLog(vfs.OS(), t.TempDir(), "p", 1<<20)
		require.NoError(t, err)
		var want []string
		for i := range 5 {
			_, err := l.append(Part{Tenant: "a", Replica: i, Regions: [][]byte{[]byte("payload")}})
			require.NoError(t, err)
			want = append(want, fmt.Sprintf("a %d payload", i))
		}
		require.NoError(t, l.close())
		path := l.path(l.current)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		if rnd.Intn(2) == 0 {
			b = b[:rnd.Intn(len(b))]
		} else {
			b[rnd.Intn(len(b))] ^= 1 << rnd.Intn(8)
		}
		require.NoError(t, os.WriteFile(path, b, 0o600))
		got := readHints(t, l)
		require.Equal(t, fmt.Sprint(want[:len(got)]), fmt.Sprint(got))
	}
}

func FuzzDecodeHint(f *testing.F) {
	f.Add([]byte{3, 8, 1, 'a', 0})
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = decodeHint(b) })
}

func TestHintLog_RemoveKeepsOtherFilesOfItsDirectory(t *testing.T) {
	dir := t.TempDir()
	wal := filepath.Join(dir, "tenant", "wal")
	require.NoError(t, os.MkdirAll(wal, 0o755))
	logs := map[string]*hintLog{}
	for _, peer := range []string{"left:1", "stays:1"} {
		l, err := openHintLog(vfs.OS(), dir, peer, 1<<20)
		require.NoError(t, err)
		_, err = l.append(Part{Tenant: "a", Regions: [][]byte{[]byte(peer)}})
		require.NoError(t, err)
		logs[peer] = l
	}
	require.NoError(t, logs["left:1"].remove())
	require.Zero(t, logs["left:1"].bytes())
	require.DirExists(t, wal)
	require.Equal(t, []string{"a 0 stays:1"}, readHints(t, logs["stays:1"]))
	again, err := openHintLog(vfs.OS(), dir, "left:1", 1<<20)
	require.NoError(t, err)
	require.Empty(t, readHints(t, again))
}
