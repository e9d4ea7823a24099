// Package buckettest is the acceptance suite of bucket.Bucket, and buckets
// that fail on purpose.
package buckettest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Run checks everything that bucket.Bucket promises. open returns an empty
// bucket for each call and closes it by t.Cleanup where that is necessary.
func Run(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	t.Helper()
	for name, f := range map[string]func(*testing.T, bucket.Bucket){
		"missing objects":  testMissing,
		"whole objects":    testWhole,
		"ranges":           testRanges,
		"listing":          testListing,
		"stopping":         testStopping,
		"replacing":        testReplacing,
		"failed uploads":   testFailedUpload,
		"deleting":         testDeleting,
		"concurrent use":   testConcurrent,
		"cancelled":        testCancelled,
		"prefix of bucket": testPrefix,
	} {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

func put(t *testing.T, b bucket.Bucket, name, content string) {
	t.Helper()
	require.NoError(t, b.Upload(t.Context(), name, strings.NewReader(content), int64(len(content))))
}

func get(t *testing.T, b bucket.Reader, name string) string {
	t.Helper()
	data, err := bucket.ReadAll(t.Context(), b, name, 1<<30)
	require.NoError(t, err)
	return string(data)
}

func getRange(t *testing.T, b bucket.Reader, name string, off, length int64) (string, error) {
	t.Helper()
	rc, err := b.GetRange(t.Context(), name, off, length)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(rc)
	require.NoError(t, rc.Close())
	return string(data), err
}

func list(t *testing.T, b bucket.Reader, dir string) []string {
	t.Helper()
	names := []string{}
	require.NoError(t, b.List(t.Context(), dir, func(o bucket.Object) error {
		names = append(names, o.Name)
		return nil
	}))
	return names
}

func testMissing(t *testing.T, b bucket.Bucket) {
	put(t, b, "dir/object", "x")
	for _, name := range []string{"nothing", "dir", "dir/obj", "dir/object/below"} {
		_, err := bucket.ReadAll(t.Context(), b, name, 10)
		require.ErrorIs(t, err, bucket.ErrNotFound, "Get %s", name)
		_, err = getRange(t, b, name, 0, 1)
		require.ErrorIs(t, err, bucket.ErrNotFound, "GetRange %s", name)
		_, err = b.Stat(t.Context(), name)
		require.ErrorIs(t, err, bucket.ErrNotFound, "Stat %s", name)
	}
	require.Empty(t, list(t, b, "nothing"))
	require.Empty(t, list(t, b, "dir/obj"), "a listing is by directory, not by prefix of characters")
}

func testWhole(t *testing.T, b bucket.Bucket) {
	big := make([]byte, 300_000)
	rand.New(rand.NewSource(1)).Read(big)
	for name, content := range map[string]string{
		"empty": "", "one": "1", "a/b/c.json": `{"a":1}`, "sp ace+plus&amp": "odd", "ünï": "code", "big": string(big),
	} {
		start := time.Now()
		put(t, b, name, content)
		require.Equal(t, content, get(t, b, name), name)
		o, err := b.Stat(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, name, o.Name)
		require.Equal(t, int64(len(content)), o.Size)
		require.False(t, o.LastModified.IsZero())
		require.WithinDuration(t, start, o.LastModified, time.Hour)
	}
	// A reader of unknown kind and unknown length.
	r := struct{ io.Reader }{strings.NewReader("streamed")}
	require.NoError(t, b.Upload(t.Context(), "stream", r, -1))
	require.Equal(t, "streamed", get(t, b, "stream"))

	_, err := bucket.ReadAll(t.Context(), b, "big", 1000)
	require.ErrorIs(t, err, bucket.ErrTooLarge)
}

func testRanges(t *testing.T, b bucket.Bucket) {
	const content = "0123456789"
	put(t, b, "digits", content)
	for off := range int64(len(content)) {
		for end := off; end <= int64(len(content)); end++ {
			got, err := getRange(t, b, "digits", off, end-off)
			require.NoError(t, err)
			require.Equal(t, content[off:end], got)
		}
	}
	for _, r := range [][2]int64{{0, 11}, {9, 2}, {5, 1000}, {10, 1}, {100, 5}} {
		_, err := getRange(t, b, "digits", r[0], r[1])
		require.Error(t, err, "range %v goes past the end", r)
		require.NotErrorIs(t, err, bucket.ErrNotFound)
	}
	_, err := getRange(t, b, "digits", -1, 2)
	require.Error(t, err)
	_, err = getRange(t, b, "digits", 1, -2)
	require.Error(t, err)
}

// testListing checks order, recursion and directories of listings.
func testListing(t *testing.T, b bucket.Bucket) {
	require.Empty(t, list(t, b, ""))
	names := []string{
		"a", "a.b", "a/1", "a/2/x", "a/2.y", "a0", "b/c/d/e", "b/c-", "b/c0",
		"01ARZ3NDEKTSV4RRFFQ69G5FAV/chunks/000001", "01ARZ3NDEKTSV4RRFFQ69G5FAV/index",
		"01ARZ3NDEKTSV4RRFFQ69G5FAV/meta.json",
	}
	var real []string
	for _, name := range names {
		// Not every storage can have both "a" and "a/1".
		if name != "a" {
			put(t, b, name, name)
			real = append(real, name)
		}
	}
	slices.Sort(real)
	require.Equal(t, real, list(t, b, ""))
	require.Equal(t, []string{"a/1", "a/2.y", "a/2/x"}, list(t, b, "a"))
	require.Equal(t, []string{"a/2/x"}, list(t, b, "a/2"))
	require.Equal(t, []string{"b/c/d/e"}, list(t, b, "b/c"))

	require.NoError(t, b.List(t.Context(), "", func(o bucket.Object) error {
		require.Contains(t, []int64{-1, int64(len(o.Name))}, o.Size)
		if !o.LastModified.IsZero() {
			require.WithinDuration(t, time.Now(), o.LastModified, time.Hour)
		}
		return nil
	}))
}

func testStopping(t *testing.T, b bucket.Bucket) {
	for i := range 10 {
		put(t, b, fmt.Sprintf("%02d", i), "x")
	}
	stop := errors.New("stop")
	var seen []string
	err := b.List(t.Context(), "", func(o bucket.Object) error {
		if seen = append(seen, o.Name); len(seen) == 3 {
			return stop
		}
		return nil
	})
	require.ErrorIs(t, err, stop)
	require.Equal(t, []string{"00", "01", "02"}, seen)
}

func testReplacing(t *testing.T, b bucket.Bucket) {
	put(t, b, "x", "a long first version")
	put(t, b, "x", "second")
	require.Equal(t, "second", get(t, b, "x"))
	o, err := b.Stat(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, int64(6), o.Size)
}

// testFailedUpload checks that an upload whose reader fails leaves no trace.
func testFailedUpload(t *testing.T, b bucket.Bucket) {
	broken := errors.New("broken disk")
	half := func() io.Reader {
		return io.MultiReader(bytes.NewReader(make([]byte, 1000)), errReader{broken})
	}
	require.Error(t, b.Upload(t.Context(), "new/object", half(), 2000))
	_, err := b.Stat(t.Context(), "new/object")
	require.ErrorIs(t, err, bucket.ErrNotFound)

	put(t, b, "old", "stays")
	require.Error(t, b.Upload(t.Context(), "old", half(), 2000))
	require.Equal(t, "stays", get(t, b, "old"))
	require.Equal(t, []string{"old"}, list(t, b, ""))

	require.Error(t, b.Upload(t.Context(), "short", strings.NewReader("abc"), 5), "fewer bytes than announced")
	_, err = b.Stat(t.Context(), "short")
	require.ErrorIs(t, err, bucket.ErrNotFound)

	for _, name := range []string{"", "/", "/abs", "a//b", "../up", "a/../../b", "./a", "a/.", "nul\x00"} {
		require.ErrorIs(t, b.Upload(t.Context(), name, strings.NewReader("x"), 1), bucket.ErrInvalidName, "%q", name)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func testDeleting(t *testing.T, b bucket.Bucket) {
	put(t, b, "a/b/1", "x")
	put(t, b, "a/b/2", "x")
	put(t, b, "a/c", "x")
	require.NoError(t, b.Delete(t.Context(), "a/b/1"))
	require.Equal(t, []string{"a/b/2", "a/c"}, list(t, b, ""))
	require.NoError(t, b.Delete(t.Context(), "a/b/1"), "a second time")
	require.NoError(t, b.Delete(t.Context(), "never/was"))
	require.NoError(t, b.Delete(t.Context(), "a/b"), "a directory is no object")
	require.Equal(t, []string{"a/b/2", "a/c"}, list(t, b, ""))
	require.NoError(t, b.Delete(t.Context(), "a/b/2"))
	require.NoError(t, b.Delete(t.Context(), "a/c"))
	require.Empty(t, list(t, b, ""))
	put(t, b, "a/b/1", "again")
	require.Equal(t, "again", get(t, b, "a/b/1"))
}

// testConcurrent checks that concurrent uploads, reads and deletions do not mix.
func testConcurrent(t *testing.T, b bucket.Bucket) {
	var wg sync.WaitGroup
	errs := make(chan error, 1000)
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				own := fmt.Sprintf("dir%d/%d/object", i%3, w)
				content := strings.Repeat(string(rune('a'+w)), 2000+i)
				errs <- b.Upload(t.Context(), own, strings.NewReader(content), int64(len(content)))
				errs <- b.Upload(t.Context(), "shared", strings.NewReader(content[:2000]), 2000)
				got, err := bucket.ReadAll(t.Context(), b, own, 1<<20)
				if err == nil && string(got) != content {
					err = fmt.Errorf("%s has other content", own)
				}
				errs <- err
				shared, err := bucket.ReadAll(t.Context(), b, "shared", 1<<20)
				if err == nil && strings.Count(string(shared), string(shared[:1])) != 2000 {
					err = errors.New("a mixture of two uploads is visible")
				}
				errs <- err
				errs <- b.Delete(t.Context(), own)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	require.Equal(t, []string{"shared"}, list(t, b, ""))
}

func testPrefix(t *testing.T, b bucket.Bucket) {
	p := bucket.Prefix(b, "/team/a/")
	put(t, p, "x/1", "one")
	put(t, b, "team/ab", "not below")
	put(t, b, "x/1", "outside")
	require.Equal(t, "one", get(t, p, "x/1"))
	require.Equal(t, "one", get(t, b, "team/a/x/1"))
	require.Equal(t, []string{"x/1"}, list(t, p, ""))
	require.Equal(t, []string{"x/1"}, list(t, p, "x"))
	o, err := p.Stat(t.Context(), "x/1")
	require.NoError(t, err)
	require.Equal(t, "x/1", o.Name)
	require.NoError(t, p.Delete(t.Context(), "x/1"))
	require.Equal(t, []string{"team/ab", "x/1"}, list(t, b, ""))
	require.Same(t, b, bucket.Prefix(b, "//"))
}
