package discovery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Bounds of the answers of the API. A list is read in pages.
const (
	maxAnswer   = 32 << 20
	maxPages    = 1000
	pageSize    = 500
	callTimeout = 10 * time.Second
	// watchTime is how long one watch lasts at most; the API server ends it.
	watchTime = 5 * time.Minute
)

// kubeAPI is a client of the API of the cluster that the process runs in. It reads the
// token for each request, as the kubelet replaces it.
type kubeAPI struct {
	base   string
	token  string // path
	client *http.Client
}

// newKubeAPI makes the client. The environment names the server, as in every pod.
func newKubeAPI(credentials string) (*kubeAPI, error) {
	host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, fmt.Errorf("members k8s+... need the API of the cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, as they are in a pod")
	}
	ca, err := os.ReadFile(filepath.Join(credentials, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("members k8s+... need the service account in --receive.kubernetes-credentials (automountServiceAccountToken or a projected volume): %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(credentials, "ca.crt"))
	}
	t := &http.Transport{
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		DialContext:           (&net.Dialer{Timeout: callTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   callTimeout,
		ResponseHeaderTimeout: callTimeout,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       time.Minute,
	}
	return &kubeAPI{
		base:  "https://" + net.JoinHostPort(host, port),
		token: filepath.Join(credentials, "token"), client: &http.Client{Transport: t},
	}, nil
}

// statusError is an answer of the API other than 200.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.text) }

// open makes a request and returns the body of its answer.
func (a *kubeAPI) open(ctx context.Context, path string, q url.Values) (io.ReadCloser, error) {
	token, err := os.ReadFile(a.token)
	if err != nil {
		return nil, fmt.Errorf("read the token of the service account: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "hindsight-receive")
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // the status is enough
		var s struct{ Message string }
		if json.Unmarshal(text, &s) == nil && s.Message != "" {
			text = []byte(s.Message)
		}
		return nil, &statusError{resp.StatusCode, strings.TrimSpace(string(text))}
	}
	return resp.Body, nil
}

// get reads one object.
func (a *kubeAPI) get(ctx context.Context, path string, q url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := a.open(ctx, path, q)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
