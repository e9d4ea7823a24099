package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each role starts with each flag that manifests of Thanos may have, at a value
// that is not its default. test/flags checks that the value is used.
func TestEachRoleStartsWithEachFlag(t *testing.T) {
	f, err := os.Open("testdata/flags.txt")
	require.NoError(t, err)
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		t.Run(line, func(t *testing.T) { requireStart(t, line) })
	}
}

func requireStart(t *testing.T, line string) {
	dir := t.TempDir()
	line, refusal, refused := strings.Cut(line, " => refused: ")
	words := strings.Fields(line)
	role, args := words[0], words[1:]
	files := flagFiles(t, dir)
	given := map[string]bool{}
	for i, a := range args {
		name, value, hasValue := strings.Cut(a, "=")
		given[name] = true
		if text, ok := files[value]; ok {
			args[i] = name + "=" + text
		} else if hasValue {
			args[i] = name + "=" + strings.ReplaceAll(value, "{dir}", dir)
		}
	}
	for _, a := range baseFlags(role, dir, files) {
		if name, _, _ := strings.Cut(a, "="); !given[name] && !given[name+"-file"] {
			args = append(args, a)
		}
	}
	var errs logBuffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	errs.listening = cancel
	code := run(ctx, append([]string{role}, args...), streams{out: &bytes.Buffer{}, err: &errs})
	if refused {
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs.String(), refusal)
		return
	}
	require.Equal(t, exitOK, code, "%s %s\n%s", role, args, errs.String())
	require.True(t, errs.seen(), "%s %s did not start:\n%s", role, args, errs.String())
}

// baseFlags returns the flags that a role needs to start.
func baseFlags(role, dir string, texts map[string]string) []string {
	base := []string{"--http-address=127.0.0.1:0"}
	if role != "compact" {
		base = append(base, "--grpc-address=127.0.0.1:0")
	}
	switch role {
	case "store":
		base = append(base, "--objstore.config="+texts["{bucket}"], "--data-dir="+dir+"/data")
	case "compact":
		base = append(base, "--objstore.config="+texts["{bucket}"], "--data-dir="+dir+"/data", "--wait")
	case "receive":
		base = append(base, `--label=replica="a"`, "--tsdb.path="+dir+"/tsdb", "--remote-write.address=127.0.0.1:0")
	case "sidecar":
		base = append(base, "--prometheus.url=http://127.0.0.1:1", "--tsdb.path="+dir+"/tsdb")
	}
	return base
}

// flagFiles writes the files that flags name and returns the texts that replace
// words in braces.
func flagFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	writeCertificate(t, dir)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "tsdb"), 0o755))
	bucket := "type: FILESYSTEM\nconfig:\n  directory: " + filepath.Join(dir, "bucket") + "\n"
	files := map[string]string{
		"bucket.yml":     bucket,
		"tracing.yml":    "type: OTLP\nconfig:\n  client_type: http\n  endpoint: 127.0.0.1:1\n  insecure: true\n",
		"client.yml":     "basic_auth:\n  username: reader\n  password: secret\n",
		"web.yml":        "http_server_config:\n  http2: false\n",
		"logging.yml":    "http:\n  options:\n    level: INFO\n",
		"relabel.yml":    "- action: keep\n  source_labels: [cluster]\n  regex: eu\n",
		"cache.yml":      "type: IN-MEMORY\nconfig:\n  max_size: 64MB\n",
		"pages.yml":      "type: IN-MEMORY\nconfig:\n  max_size: 64MB\n",
		"endpoints.yml":  "endpoints:\n- address: 127.0.0.1:1\n",
		"sd.yml":         "- targets: ['127.0.0.1:1']\n",
		"limits.yml":     "write:\n  default:\n    request:\n      series_limit: 1000\n",
		"ring.json":      `[{"endpoints":["127.0.0.1:10901"]}]`,
		"ring3.json":     `[{"endpoints":["node-0.invalid:10901","node-1.invalid:10901","node-2.invalid:10901"]}]`,
		"prometheus.yml": "global:\n  external_labels: {cluster: eu}\n",
	}
	texts := map[string]string{
		"{tracing}": files["tracing.yml"], "{client}": files["client.yml"],
		"{bucket}": bucket, "{logging}": files["logging.yml"], "{relabel}": files["relabel.yml"],
		"{cache}": files["cache.yml"], "{pages}": files["pages.yml"], "{endpoints}": files["endpoints.yml"],
		"{limits}": files["limits.yml"], "{ring}": files["ring.json"], "{ring3}": files["ring3.json"],
	}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return texts
}

// logBuffer collects a log and calls listening when the role listens.
type logBuffer struct {
	listening context.CancelFunc

	mtx     sync.Mutex
	buf     bytes.Buffer
	started bool
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	if bytes.Contains(p, []byte("listening for HTTP")) && !b.started {
		b.started = true
		// The role runs for a moment before it is asked to stop.
		time.AfterFunc(50*time.Millisecond, b.listening)
	}
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	return b.buf.String()
}

func (b *logBuffer) seen() bool {
	b.mtx.Lock()
	defer b.mtx.Unlock()
	return b.started
}

// writeCertificate writes cert.pem, which is its own authority, and key.pem.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	require.NoError(t, err)
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, b := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: rawKey},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600))
	}
}
