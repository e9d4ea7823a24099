package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sources are the files of which vite.config.ts makes the hash of the sources, below
// the directory ui.
var sources = []string{"index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts", "src"}

func TestBundle_IsMadeFromTheSources(t *testing.T) {
	root := os.DirFS(filepath.Join("..", "..", "ui"))
	var names []string
	for _, start := range sources {
		require.NoError(t, fs.WalkDir(root, start, func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				names = append(names, p)
			}
			return err
		}))
	}
	require.Equal(t, digest(t, root, names), written(t, "sources"), "the bundle is older than its sources: run make ui, and commit pkg/ui/dist")
}

func TestBundle_IsAsBuilt(t *testing.T) {
	dist, err := fs.Sub(files, "dist")
	require.NoError(t, err)
	names, err := fs.Glob(dist, "assets/*")
	require.NoError(t, err)
	require.Equal(t, digest(t, dist, append(names, "index.html")), written(t, "bundle"), "pkg/ui/dist was changed by something else than make ui")
}

// digest is the hash over names and content, as the build makes it.
func digest(t *testing.T, root fs.FS, names []string) string {
	t.Helper()
	slices.Sort(names)
	all := sha256.New()
	for _, name := range names {
		content, err := fs.ReadFile(root, name)
		require.NoError(t, err)
		fmt.Fprintf(all, "%s\x00%d\x00%s", name, len(content), content)
	}
	return hex.EncodeToString(all.Sum(nil))
}

// written returns a hash that the build has written.
func written(t *testing.T, key string) string {
	t.Helper()
	content, err := files.ReadFile("dist/build.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		if name, hash, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == key {
			return hash
		}
	}
	t.Fatalf("build.txt has no line %q", key)
	return ""
}

// Everything that a browser loads until the first graph: all assets but those of pages
// other than the query page.
func TestBundle_IsSmall(t *testing.T) {
	names, err := fs.Glob(files, "dist/assets/*.gz")
	require.NoError(t, err)
	page, err := files.ReadFile("dist/index.html")
	require.NoError(t, err)
	total := len(page)
	for _, name := range names {
		if b, err := files.ReadFile(name); err == nil && !strings.Contains(path.Base(name), "-page-") || strings.Contains(path.Base(name), "query-page-") {
			total += len(b)
		}
	}
	t.Logf("%d bytes compressed to the first graph", total)
	require.Less(t, total, 400<<10)
}

func get(t *testing.T, h http.Handler, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(b)
}

func TestPage_HasStrictPolicyAndEscapedConfig(t *testing.T) {
	u := New(Config{Role: "query", Version: `"><script>alert(1)</script>`, Pages: []string{"stores"}})
	first, second := get(t, u, "/stores"), get(t, u, "/stores")
	policy := first.Header.Get("Content-Security-Policy")
	require.NotEqual(t, policy, second.Header.Get("Content-Security-Policy"), "each answer has a nonce of its own")
	require.NotContains(t, policy, "unsafe")
	require.Equal(t, "no-store", first.Header.Get("Cache-Control"))
	text := body(t, first)
	require.NotContains(t, text, "<script>alert")
	nonce := regexp.MustCompile(`nonce-(\w+)'`).FindStringSubmatch(policy)
	require.NotNil(t, nonce)
	require.Contains(t, text, nonce[1])
	require.Empty(t, regexp.MustCompile(`<script(>| [^>]*[^"]>)|<style|style=|onload=|https?://`).FindString(text), "no inline script or style, no foreign URL")
	require.Empty(t, regexp.MustCompile(`(src|href)="/`).FindString(text), "URLs are relative")
}

func TestAssets_AreCachedAndCompressed(t *testing.T) {
	mux := http.NewServeMux()
	New(Config{}).Register(mux, "/some")
	page, err := files.ReadFile("dist/index.html")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?:src|href)="\./(assets/[^"]+)"`).FindAllStringSubmatch(string(page), -1)
	require.GreaterOrEqual(t, len(found), 2)
	for _, f := range found {
		url := "/some/" + f[1]
		plain := get(t, mux, url)
		require.Equal(t, http.StatusOK, plain.StatusCode, url)
		require.Empty(t, plain.Header.Get("Content-Encoding"))
		require.Contains(t, plain.Header.Get("Cache-Control"), "immutable")
		require.Contains(t, []string{"text/javascript; charset=utf-8", "text/css; charset=utf-8"}, plain.Header.Get("Content-Type"))
		packed := get(t, mux, url, "Accept-Encoding", "br, gzip")
		require.Equal(t, "gzip", packed.Header.Get("Content-Encoding"))
		z, err := gzip.NewReader(packed.Body)
		require.NoError(t, err)
		var out bytes.Buffer
		_, err = io.Copy(&out, z)
		require.NoError(t, err)
		require.Equal(t, body(t, plain), out.String())
		again := get(t, mux, url, "If-None-Match", "W/"+plain.Header.Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.StatusCode)
		require.Equal(t, "", get(t, mux, url, "Accept-Encoding", "gzip;q=0.0").Header.Get("Content-Encoding"))
	}
	require.Equal(t, http.StatusNotFound, get(t, mux, "/some/assets/none.js").StatusCode)
	require.Equal(t, http.StatusNotFound, get(t, mux, "/some/assets/..%2findex.html").StatusCode)
}

// Browsers without JavaScript are led to an API, below the prefix of a proxy.
func TestPage_LinksBelowThePrefix(t *testing.T) {
	u := New(Config{Role: "query", Base: func(*http.Request) string { return "/prefix" }})
	body, err := io.ReadAll(get(t, u, "/").Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `<a href="/prefix/api/v1/stores">`)
	body, err = io.ReadAll(get(t, New(Config{Role: "store"}), "/").Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `<a href="./api/v1/blocks">`)
}
