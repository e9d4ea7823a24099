package segments

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
)

// resident returns how many bytes of a mapped file are in the memory of this process.
func resident(t *testing.T, path string) (bytes int) {
	f, err := os.Open("/proc/self/smaps")
	require.NoError(t, err)
	defer f.Close()
	found := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.Contains(line, path) {
			found = true
		}
		if found && strings.HasPrefix(line, "Rss:") {
			var kib int
			_, err := fmt.Sscanf(line, "Rss: %d kB", &kib)
			require.NoError(t, err)
			return kib << 10
		}
	}
	require.True(t, found, "%s is mapped", path)
	return 0
}

// A file that is read once, in any order, is never in memory whole. Slices stay valid when
// their pages were given back.
func TestFile_KeepsPartInMemory(t *testing.T) {
	const size, step = 64 << 20, 64 << 10
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i>>16) ^ byte(i)
	}
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	orders := map[string]func(int) int{
		"forward":  func(i int) int { return i },
		"backward": func(i int) int { return size/step - 1 - i },
		"random":   func() func(int) int { p := rand.Perm(size / step); return func(i int) int { return p[i] } }(),
	}
	for name, order := range orders {
		t.Run(name, func(t *testing.T) {
			f, err := open(path)
			require.NoError(t, err)
			defer func() { require.NoError(t, f.close()) }()
			first := f.bytes(0, step)
			for i := range size / step {
				at := order(i) * step
				require.Equal(t, content[at:at+step], f.bytes(at, at+step))
				if i%64 == 0 {
					require.LessOrEqual(t, resident(t, path), kept, "read %d", i)
				}
			}
			require.Equal(t, content[:step], first)
		})
	}
}

// segment writes a segment with chunks, and returns what refers to them.
func segment(t *testing.T, dir string) (metas []chunks.Meta) {
	w, err := chunks.NewWriter(dir)
	require.NoError(t, err)
	for i := range 20 {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		for j := range 1 + i*7 {
			app.Append(0, int64(j*1000), float64(i*j))
		}
		metas = append(metas, chunks.Meta{MaxTime: 1e6, Chunk: c})
	}
	require.NoError(t, w.WriteChunks(metas...))
	require.NoError(t, w.Close())
	return metas
}

func TestFiles_ReturnWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	metas := segment(t, dir)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600))
	s, err := Open(dir)
	require.NoError(t, err)
	defer s.Close()
	for _, m := range metas {
		c, size, err := s.Chunk(m.Ref)
		require.NoError(t, err)
		require.Equal(t, Chunk{m.Chunk.Encoding(), m.Chunk.Bytes()}, c)
		require.Positive(t, size)
	}
}

// Damage is an error wherever it is, and references that lead nowhere are.
func TestFiles_RefuseDamage(t *testing.T) {
	dir := t.TempDir()
	metas := segment(t, dir)
	path := filepath.Join(dir, "000001")
	sound, err := os.ReadFile(path)
	require.NoError(t, err)
	read := func(b []byte, refs ...chunks.ChunkRef) (failed int) {
		require.NoError(t, os.WriteFile(path, b, 0o600))
		s, err := Open(dir)
		if err != nil {
			return len(refs)
		}
		defer s.Close()
		for _, ref := range refs {
			if _, _, err := s.Chunk(ref); err != nil {
				failed++
			}
		}
		return failed
	}
	var refs []chunks.ChunkRef
	for _, m := range metas {
		refs = append(refs, m.Ref)
	}
	require.Zero(t, read(sound, refs...))
	for at := range sound {
		if at >= 5 && at < 8 {
			continue // padding of the header
		}
		b := append([]byte(nil), sound...)
		b[at] ^= 0xff
		require.Positive(t, read(b, refs...), "byte %d is damaged", at)
	}
	last := refs[len(refs)-1]
	for n := 1; n < len(sound)-8; n += 13 {
		require.Equal(t, 1, read(sound[:len(sound)-n], last), "%d bytes are missing", n)
	}
	for _, ref := range []chunks.ChunkRef{0, 7, chunks.ChunkRef(len(sound)), 1 << 32, 1<<64 - 1, last + 1} {
		require.Equal(t, 1, read(sound, ref), "reference %d", ref)
	}
	require.Equal(t, 1, read(append(sound[:8:8], 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01), 8), "a length of 2^64-1")
}

func TestOpen_NamesTheFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "none"))
	require.ErrorContains(t, err, "list the chunk segments")
	for content, want := range map[string]string{
		"":                                 "mmap",
		"short":                            "it has 5 bytes only",
		"\x85\xbd\x40\xde\x01\x00\x00\x00": "it begins with 85bd40de",
		"\x85\xbd\x40\xdd\x02\x00\x00\x00": "version 2",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "000001"), []byte(content), 0o600))
		_, err := Open(dir)
		require.ErrorContains(t, err, "000001")
		require.ErrorContains(t, err, want)
	}
}
