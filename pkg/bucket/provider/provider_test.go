package provider

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

func TestFilesystem(t *testing.T) {
	open := func(t *testing.T) bucket.Bucket {
		b, err := openDirectory(filepath.Join(t.TempDir(), "bucket"))
		require.NoError(t, err)
		return b
	}
	buckettest.Run(t, open)
	buckettest.RunConditional(t, open)
	buckettest.RunConditionalReads(t, open)
}

func TestFilesystem_ByConfig(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		yml := "type: filesystem\nconfig:\n  directory: " + t.TempDir() + "\nprefix: /a/b/\n"
		b, err := Open(t.Context(), []byte(yml), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		require.NoError(t, err)
		require.NoError(t, Check(t.Context(), b))
		return b
	})
}

func TestReopening_KeepsTheContract(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		// The first bucket refuses every call, so that each test reopens it.
		refused := buckettest.NewFaulty(bucket.NewMemory(), func(buckettest.Op) buckettest.Fault {
			return buckettest.Fault{Err: bucket.ErrAccessDenied}
		})
		reopened := bucket.NewMemory()
		return newReopening(refused, slog.New(slog.DiscardHandler), func(context.Context) (bucket.Bucket, error) { return reopened, nil })
	})
	buckettest.RunConditional(t, func(*testing.T) bucket.Bucket {
		return newReopening(bucket.NewMemory(), slog.New(slog.DiscardHandler), nil)
	})
}

func TestAdapter(t *testing.T) {
	buckettest.Run(t, func(t *testing.T) bucket.Bucket {
		return adapt(objstore.NewInMemBucket(), "memory")
	})
}

// TestFilesystem_ReaderLeavesNoTrace opens and reads a bucket that does not exist.
func TestFilesystem_ReaderLeavesNoTrace(t *testing.T) {
	parent := t.TempDir()
	b, err := openDirectory(filepath.Join(parent, "bucket"))
	require.NoError(t, err)
	require.NoError(t, Check(t.Context(), b))
	_, err = b.Get(t.Context(), "x")
	require.ErrorIs(t, err, bucket.ErrNotFound)
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestFilesystem_UploadsLeaveNoTrace lists the directory after uploads.
func TestFilesystem_UploadsLeaveNoTrace(t *testing.T) {
	dir := t.TempDir()
	b, err := openDirectory(dir)
	require.NoError(t, err)
	require.NoError(t, b.Upload(t.Context(), "a/x", strings.NewReader("x"), 1))
	require.Error(t, b.Upload(t.Context(), "a/y", strings.NewReader("x"), 2))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "a", entries[0].Name())
}

// TestFilesystem_RemovesUploadsOfDeadProcesses has one file of a process that
// died, without a lock, and one that is being written.
func TestFilesystem_RemovesUploadsOfDeadProcesses(t *testing.T) {
	dir := t.TempDir()
	tmp := filepath.Join(dir, uploadDir)
	require.NoError(t, os.MkdirAll(tmp, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(tmp, "dead"), nil, 0o666))
	other := &uploads{fs: vfs.OS(), dir: tmp}
	other.clean.Do(func() {})
	alive, err := other.create()
	require.NoError(t, err)
	defer alive.Close()

	b, err := openDirectory(dir)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(tmp, "dead"), "a reader removes nothing")
	require.NoError(t, b.Upload(t.Context(), "x", strings.NewReader("x"), 1))
	require.NoFileExists(t, filepath.Join(tmp, "dead"))
	require.FileExists(t, alive.Name())
	require.NoError(t, b.List(t.Context(), "", func(o bucket.Object) error {
		require.Equal(t, "x", o.Name)
		return nil
	}))
}

// TestFilesystem_PipesAndDirectoriesAreNoObjects reads names that are no files.
func TestFilesystem_PipesAndDirectoriesAreNoObjects(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "directory"), 0o777))
	b, err := openDirectory(dir)
	require.NoError(t, err)
	for _, name := range []string{"pipe", "directory"} {
		_, err := b.Get(t.Context(), name)
		require.ErrorIs(t, err, bucket.ErrNotFound, name)
		_, err = b.GetRange(t.Context(), name, 0, 1)
		require.ErrorIs(t, err, bucket.ErrNotFound, name)
		_, err = b.Stat(t.Context(), name)
		require.ErrorIs(t, err, bucket.ErrNotFound, name)
	}
}

// TestFilesystem_DeletesWhatItLists has an object whose name no upload may have.
func TestFilesystem_DeletesWhatItLists(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a\\b\n"), nil, 0o666))
	b, err := openDirectory(dir)
	require.NoError(t, err)
	require.NoError(t, b.List(t.Context(), "", func(o bucket.Object) error { return b.Delete(t.Context(), o.Name) }))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.ErrorIs(t, b.Delete(t.Context(), "../x"), bucket.ErrInvalidName)
}

func TestOpen_ConfigErrorsAreOneLine(t *testing.T) {
	f := func(yml, want string) {
		t.Helper()
		_, err := Open(t.Context(), []byte(yml), slog.New(slog.DiscardHandler), nil)
		require.Error(t, err)
		require.True(t, flags.IsInvalid(err), "%v", err)
		require.Contains(t, err.Error(), want)
		require.NotContains(t, err.Error(), "\n")
	}
	f("", "empty")
	f("type: S4", `unknown type "S4"`)
	f("config: {}", "type is missing")
	f("type: S3\nconfigg: {}", `line 2: unknown key "configg"`)
	f("type: S3\nconfig:\n  bucket: a\n  endpoint: b\n  bukket: c\n", `line 5: unknown key "bukket"`)
	f("type: S3\nconfig:\n  bucket: a\n  endpoint: b\n  http_config:\n    idle: 1s\n", `line 6: unknown key "idle"`)
	f("type: COS\nconfig:\n  bucket: a\n  wrong: b\n", `line 4: unknown key "wrong"`)
	f("type: FILESYSTEM\nconfig:\n  dir: a\n", `line 3: unknown key "dir"`)
	f("type: FILESYSTEM\nconfig: {}", "needs the key directory")
	f("type: S3\nconfig: {bucket: abc}", "no s3 endpoint")
	f("type: S3\nconfig: {endpoint: x}", "type S3 needs the key bucket")
	f("type: AZURE\nconfig: {storage_account: x}", "type AZURE needs the key container")
	f("type: S3\nconfig: {bucket: a_B/c, endpoint: x}", `bucket "a_B/c" cannot be the name of a bucket`)
	f("type: S3\nconfig: {bucket: 10.0.0.1, endpoint: x}", "cannot be the name of a bucket")
	f("type: GCS\nconfig: {bucket: Big}", "it must be 3 to 222")
	f("type: AZURE\nconfig: {container: a--b, storage_account: x}", "single dashes")
	f("type: S3\nconfig: {bucket: a, bucket: b}", "given twice")
	f("type: S3\nconfig: {bucket: a, endpoint: x, insecure: maybe}", "line 2")
	f("type: [", "line 1")
	for _, typ := range []string{"GCS", "AZURE", "SWIFT", "ALIYUNOSS", "BOS", "OCI", "OBS"} {
		f("type: "+typ+"\nconfig:\n  no_such_key: 1\n", `line 3: unknown key "no_such_key"`)
	}
}

// TestOpen_UnreachableServerIsNotInvalid opens Swift, whose client sends a request then. A
// server that does not answer may be a temporary failure.
func TestOpen_UnreachableServerIsNotInvalid(t *testing.T) {
	srv := httptest.NewServer(nil)
	srv.Close()
	yml := "type: SWIFT\nconfig: {auth_version: 3, auth_url: \"" + srv.URL + "/v3\", username: u, password: secret, domain_name: d, container_name: c, retries: 1}"
	_, err := Open(t.Context(), []byte(yml), slog.New(slog.DiscardHandler), nil)
	require.Error(t, err)
	require.False(t, flags.IsInvalid(err), "%v", err)
	require.NotContains(t, err.Error(), "secret")
}

func TestOpenDirectory_RefusesUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o666))
	_, err := Open(t.Context(), []byte("type: FILESYSTEM\nconfig: {directory: "+file+"}"), slog.New(slog.DiscardHandler), nil)
	require.True(t, flags.IsInvalid(err), "%v", err)
}

// openS3 opens a bucket on a server that answers everything in the same way.
func openS3(t *testing.T, status int, code string) (bucket.Bucket, *http.Header) {
	t.Helper()
	seen := &http.Header{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*seen = r.Header.Clone()
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`<?xml version="1.0"?><Error><Code>` + code + `</Code><Message>no way</Message></Error>`))
	}))
	t.Cleanup(srv.Close)
	yml := "type: S3\nconfig:\n  bucket: things\n  region: us-east-1\n  insecure: true\n  access_key: 0123\n  secret_key: very-secret\n  endpoint: " +
		strings.TrimPrefix(srv.URL, "http://") + "\n"
	b, err := Open(t.Context(), []byte(yml), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	return b, seen
}

func TestCheck_ExplainsRefusals(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   string
	}{
		{http.StatusForbidden, "AccessDenied", "refuses the credentials"},
		{http.StatusForbidden, "InvalidAccessKeyId", "refuses the credentials"},
		{http.StatusForbidden, "SignatureDoesNotMatch", "refuses the credentials"},
		{http.StatusNotFound, "InvalidAccessKeyId", "refuses the credentials"},
		{http.StatusNotFound, "NoSuchBucket", "does not exist"},
		{http.StatusBadRequest, "AuthorizationHeaderMalformed", "refuses requests"},
	} {
		b, seen := openS3(t, c.status, c.code)
		err := Check(t.Context(), b)
		require.Error(t, err)
		require.True(t, flags.IsInvalid(err), "%s: %v", c.code, err)
		require.Contains(t, err.Error(), c.kind)
		require.Contains(t, err.Error(), "things")
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "\n")
		require.Contains(t, seen.Get("User-Agent"), "hindsight/")
		require.Contains(t, seen.Get("Authorization"), "Credential=0123/", "keys are passed on as written")
	}
}

// TestOpen_TakesUpRotatedCredentials changes the keys of a server and then the file.
func TestOpen_TakesUpRotatedCredentials(t *testing.T) {
	valid := "old"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+valid+"/") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`<Error><Code>InvalidAccessKeyId</Code></Error>`))
			return
		}
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("Content-Length", "5")
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte("hello"))
		}
	}))
	defer srv.Close()
	key := "old"
	content := func() ([]byte, error) {
		return []byte("type: S3\nconfig: {bucket: things, region: us-east-1, insecure: true, access_key: " + key +
			", secret_key: secret, endpoint: " + strings.TrimPrefix(srv.URL, "http://") + "}"), nil
	}
	var logs strings.Builder
	b, err := OpenFrom(t.Context(), content, slog.New(slog.NewTextHandler(&logs, nil)), nil)
	require.NoError(t, err)
	read := func() error {
		got, err := bucket.ReadAll(t.Context(), b, "x", 10)
		if err == nil {
			require.Equal(t, "hello", string(got))
		}
		return err
	}
	require.NoError(t, read())
	valid, key = "new", "new"
	require.NoError(t, read())
	require.Contains(t, logs.String(), "object storage reopened")

	// A refusal soon after is an error.
	valid = "newer"
	require.ErrorIs(t, read(), bucket.ErrAccessDenied)
	require.NoError(t, b.Close())
}

// TestGet_AbortsStalledAnswer sends half an answer and then nothing, once.
func TestGet_AbortsStalledAnswer(t *testing.T) {
	release := make(chan struct{})
	silent := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = w.Write([]byte("01234"))
		if silent {
			silent = false
			w.(http.Flusher).Flush()
			<-release
			return
		}
		_, _ = w.Write([]byte("56789"))
	}))
	defer srv.Close()
	defer close(release)
	tr := &transport{next: http.DefaultTransport, userAgent: "x", stall: time.Second}
	get := func() (string, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		require.NoError(t, err)
		resp, err := tr.RoundTrip(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
		return string(body), err
	}
	got, err := get()
	require.Equal(t, "01234", got)
	require.ErrorIs(t, err, errStalled)
	require.NotErrorIs(t, err, context.Canceled)
	require.True(t, bucket.IsTemporary(err))
	got, err = get()
	require.NoError(t, err)
	require.Equal(t, "0123456789", got)
}

// TestS3_SendsARequestWithoutAnswerOnce fails an operation after the time of one request: the
// client of S3 would send it max_retries times, ten by default.
func TestS3_SendsARequestWithoutAnswerOnce(t *testing.T) {
	var requests atomic.Int64
	end := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(end)
	c, err := parse(fmt.Appendf(nil, "type: S3\nconfig: {bucket: blocks, region: x, endpoint: %q, insecure: true, access_key: a, secret_key: b, max_retries: 3, http_config: {response_header_timeout: 50ms}}", srv.Listener.Addr()))
	require.NoError(t, err)
	b, err := openKind(t.Context(), c, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for name, do := range map[string]func() error{
		"list":   func() error { return b.List(t.Context(), "", func(bucket.Object) error { return nil }) },
		"stat":   func() error { _, err := b.Stat(t.Context(), "x"); return err },
		"upload": func() error { return b.Upload(t.Context(), "x", strings.NewReader("text"), 4) },
		"delete": func() error { return b.Delete(t.Context(), "x") },
	} {
		t.Run(name, func(t *testing.T) {
			requests.Store(0)
			err := do()
			require.ErrorIs(t, err, errSilent)
			require.Equal(t, errorid.Timeout, errorid.Of(err))
			require.EqualValues(t, 1, requests.Load())
		})
	}
}

// pastDeadline is a context of a process that was stopped: its deadline has passed, its
// timer has not run.
type pastDeadline struct{ context.Context }

func (pastDeadline) Deadline() (time.Time, bool) { return time.Now(), true }

// TestWrites_NotBegunAfterTheirDeadline sends no request and changes no file.
func TestWrites_NotBegunAfterTheirDeadline(t *testing.T) {
	ctx := pastDeadline{t.Context()}
	tr := &transport{next: http.NewFileTransport(http.Dir(t.TempDir()))}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, "http://127.0.0.1/x", nil)
	require.NoError(t, err)
	resp, err := tr.RoundTrip(req)
	if err == nil {
		require.NoError(t, resp.Body.Close())
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)

	b, err := Open(t.Context(), []byte("type: FILESYSTEM\nconfig: {directory: "+t.TempDir()+"}"), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	require.NoError(t, b.Upload(t.Context(), "a", strings.NewReader("1"), 1))
	require.ErrorIs(t, b.Delete(ctx, "a"), context.DeadlineExceeded)
	require.ErrorIs(t, b.Upload(ctx, "a", strings.NewReader("2"), 1), context.DeadlineExceeded)
	got, err := bucket.ReadAll(t.Context(), b, "a", 10)
	require.NoError(t, err)
	require.Equal(t, "1", string(got))
}

// A file in the place of the directory is no empty bucket: readers would forget its blocks.
func TestFilesystem_ListOfFileFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bucket")
	b, err := Open(t.Context(), []byte("type: FILESYSTEM\nconfig: {directory: "+dir+"}"), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	none := func(bucket.Object) error { return bucket.ErrNotFound }
	require.NoError(t, b.List(t.Context(), "", none), "a directory that does not exist is an empty bucket")
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	require.ErrorIs(t, b.List(t.Context(), "", none), bucket.ErrPermanent)
	require.NoError(t, b.Close())
}

// A volume that is not mounted any more is no empty bucket: readers would forget its blocks,
// and writers would fill the disk below the mount point.
func TestFilesystem_VolumeThatIsGone(t *testing.T) {
	volume, dir := t.TempDir(), filepath.Join(t.TempDir(), "bucket")
	link := func(to string) {
		require.NoError(t, os.Symlink(to, dir+".new"))
		require.NoError(t, os.Rename(dir+".new", dir))
	}
	link(volume)
	b, err := openDirectory(dir)
	require.NoError(t, err)
	list := func() (names []string, err error) {
		err = b.List(t.Context(), "", func(o bucket.Object) error { names = append(names, o.Name); return nil })
		return names, err
	}
	requireGone := func() {
		t.Helper()
		_, lerr := list()
		_, gerr := b.Get(t.Context(), "a/b")
		_, serr := b.Stat(t.Context(), "a/b")
		_, perr := b.(bucket.Conditional).PutIf(t.Context(), "c", []byte("1"), bucket.NoVersion)
		for _, err := range []error{lerr, gerr, serr, perr, b.Upload(t.Context(), "c", strings.NewReader("1"), 1), b.Delete(t.Context(), "a/b")} {
			require.ErrorIs(t, err, bucket.ErrGone)
			require.True(t, bucket.IsTemporary(err), err)
		}
	}
	none, err := list()
	require.NoError(t, err, "an empty directory is an empty bucket")
	require.Empty(t, none)
	require.NoError(t, b.Upload(t.Context(), "a/b", strings.NewReader("1"), 1))

	require.NoError(t, os.Remove(dir))
	requireGone()
	_, err = os.Lstat(dir)
	require.ErrorIs(t, err, fs.ErrNotExist, "a write has created the directory")

	other, err := os.MkdirTemp("/dev/shm", "bucket")
	if err == nil {
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(other)) })
	}
	if err == nil && deviceOf(t, other) != deviceOf(t, volume) {
		link(other)
		requireGone()
		entries, err := os.ReadDir(other)
		require.NoError(t, err)
		require.Empty(t, entries, "a write went to the other filesystem")
		// The volume is mounted again, as another device.
		require.NoError(t, os.MkdirAll(filepath.Join(other, "a"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(other, "a/b"), []byte("1"), 0o600))
		names, err := list()
		require.NoError(t, err)
		require.Equal(t, []string{"a/b"}, names)
		require.NoError(t, b.Upload(t.Context(), "c", strings.NewReader("1"), 1))
	}

	link(volume)
	names, err := list()
	require.NoError(t, err)
	require.Equal(t, []string{"a/b"}, names)
	require.NoError(t, b.Delete(t.Context(), "a/b"))
	names, err = list()
	require.NoError(t, err, "a bucket whose last object was deleted")
	require.Empty(t, names)
}

func deviceOf(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return device(info)
}
