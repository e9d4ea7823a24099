package provider

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// cloud is a thin server with the conditional requests of Azure and GCS. Versions are
// numbers, quoted as ETags for Azure.
type cloud struct {
	mu      sync.Mutex
	objects map[string]cloudObject
	last    int64
}

type cloudObject struct {
	data []byte
	gen  int64
}

func newCloud(t *testing.T) (*cloud, *httptest.Server) { //nolint:unparam // for tests that look into it
	c := &cloud{objects: map[string]cloudObject{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/azure/", c.azure)
	mux.HandleFunc("POST /upload/storage/v1/b/things/o", c.gcsUpload)
	mux.HandleFunc("DELETE /storage/v1/b/things/o/{name...}", func(w http.ResponseWriter, r *http.Request) { c.remove(r.PathValue("name")) })
	mux.HandleFunc("GET /storage/v1/b/things/o", c.gcsList)
	mux.HandleFunc("GET /things/{name...}", c.gcsRead)
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return c, srv
}

func (c *cloud) remove(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, name)
}

// put stores data unless allowed refuses the generation of the object, 0 for none.
func (c *cloud) put(name string, data []byte, allowed func(gen int64) bool) (gen int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !allowed(c.objects[name].gen) {
		return 0, false
	}
	c.last++
	c.objects[name] = cloudObject{data, c.last}
	return c.last, true
}

// azure serves the container things: blobs, and the flat list.
func (c *cloud) azure(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/azure/things")
	name = strings.TrimPrefix(name, "/")
	refuse := func(status int, code string) {
		w.Header().Set("X-Ms-Error-Code", code)
		w.WriteHeader(status)
	}
	etag := func(gen int64) string { return fmt.Sprintf(`"0x%d"`, gen) }
	switch {
	case name == "" && r.Method == http.MethodGet && r.URL.Query().Get("comp") == "":
		// The properties of the container.
	case r.Method == http.MethodPut:
		data, _ := io.ReadAll(r.Body)
		none, match := r.Header.Get("If-None-Match"), r.Header.Get("If-Match")
		gen, ok := c.put(name, data, func(gen int64) bool {
			return (none == "" || gen == 0) && (match == "" || match == etag(gen))
		})
		switch {
		case !ok && none != "":
			refuse(http.StatusConflict, "BlobAlreadyExists")
		case !ok:
			refuse(http.StatusPreconditionFailed, "ConditionNotMet")
		default:
			w.Header().Set("ETag", etag(gen))
			w.WriteHeader(http.StatusCreated)
		}
	case r.Method == http.MethodDelete:
		c.remove(name)
		w.WriteHeader(http.StatusAccepted)
	case r.URL.Query().Get("comp") == "list":
		c.mu.Lock()
		defer c.mu.Unlock()
		w.Header().Set("Content-Type", "application/xml")
		fmt.Fprint(w, `<?xml version="1.0"?><EnumerationResults><Blobs>`)
		for n := range c.objects {
			fmt.Fprintf(w, `<Blob><Name>%s</Name><Properties><Last-Modified>Mon, 02 Jan 2006 15:04:05 GMT</Last-Modified></Properties></Blob>`, n)
		}
		fmt.Fprint(w, `</Blobs></EnumerationResults>`)
	default:
		c.read(w, name, func(o cloudObject) { w.Header().Set("ETag", etag(o.gen)) }, func() { refuse(http.StatusNotFound, "BlobNotFound") })
	}
}

func (c *cloud) read(w http.ResponseWriter, name string, head func(cloudObject), missing func()) {
	c.mu.Lock()
	o, ok := c.objects[name]
	c.mu.Unlock()
	if !ok {
		missing()
		return
	}
	head(o)
	w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
	w.Header().Set("Content-Length", fmt.Sprint(len(o.data)))
	_, _ = w.Write(o.data)
}

func (c *cloud) gcsRead(w http.ResponseWriter, r *http.Request) {
	c.read(w, r.PathValue("name"), func(o cloudObject) { w.Header().Set("X-Goog-Generation", fmt.Sprint(o.gen)) }, func() { http.NotFound(w, r) })
}

// gcsUpload takes an upload of two parts: the description of the object, and its content.
func (c *cloud) gcsUpload(w http.ResponseWriter, r *http.Request) {
	_, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	parts := multipart.NewReader(r.Body, params["boundary"])
	meta, err := parts.NextPart()
	var o struct{ Name string }
	if err == nil {
		err = json.NewDecoder(meta).Decode(&o)
	}
	var data []byte
	if err == nil {
		if meta, err = parts.NextPart(); err == nil {
			data, err = io.ReadAll(meta)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	want := r.URL.Query().Get("ifGenerationMatch")
	gen, ok := c.put(o.Name, data, func(gen int64) bool { return want == "" || want == fmt.Sprint(gen) })
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusPreconditionFailed)
		fmt.Fprint(w, `{"error":{"code":412,"message":"conditionNotMet"}}`)
		return
	}
	sum := md5.Sum(data)
	fmt.Fprintf(w, `{"name":%q,"bucket":"things","generation":"%d","size":"%d","md5Hash":%q}`, o.Name, gen, len(data), base64.StdEncoding.EncodeToString(sum[:]))
}

func (c *cloud) gcsList(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	var items []map[string]string
	for n := range c.objects {
		items = append(items, map[string]string{"name": n, "bucket": "things", "updated": "2006-01-02T15:04:05Z"})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"items": items})
}

func openCloud(t *testing.T, yml string) bucket.Bucket {
	t.Helper()
	b, err := Open(t.Context(), []byte(yml), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func runConditional(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	buckettest.RunConditional(t, open)
	buckettest.RunConditionalReads(t, open)
}

func TestAzure_ConditionalWrites(t *testing.T) {
	runConditional(t, func(t *testing.T) bucket.Bucket {
		_, srv := newCloud(t)
		key := base64.StdEncoding.EncodeToString([]byte("key"))
		return openCloud(t, "type: AZURE\nconfig:\n  container: things\n  storage_account: azure\n  storage_connection_string: "+
			"DefaultEndpointsProtocol=http;AccountName=azure;AccountKey="+key+";BlobEndpoint="+srv.URL+"/azure;\n")
	})
}

func TestGCS_ConditionalWrites(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	runConditional(t, func(t *testing.T) bucket.Bucket {
		_, srv := newCloud(t)
		t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(srv.URL, "http://"))
		account, err := json.Marshal(map[string]string{
			"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": private,
			"client_email": "a@example.com", "token_uri": srv.URL + "/token",
		})
		require.NoError(t, err)
		return openCloud(t, "type: GCS\nconfig:\n  bucket: things\n  service_account: '"+string(account)+"'\n")
	})
}
