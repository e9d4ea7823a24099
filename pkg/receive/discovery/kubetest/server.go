package kubetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const token = "token-of-a-service-account"

// Pod is an endpoint of the service. Each has a slice of its own, so that pods may use
// different ports.
type Pod struct {
	Name     string
	Hostname string // "" for an endpoint without one
	IP       string
	Port     int // is called grpc
	// Terminating is set from the deletion of the pod to the end of its processes.
	Terminating bool
}

// Server is the API. It may be used concurrently.
type Server struct {
	service, namespace string
	srv                *http.Server
	done               chan error

	mu      sync.Mutex
	version int
	oldest  int // events up to this version are forgotten
	pods    map[string]Pod
	sets    map[string]int
	events  []event
	changed chan struct{} // closed by the next event
	closing chan struct{}
	down    bool
	denied  bool
}

type event struct {
	version int
	kind    string
	pod     Pod
}

// Start serves the API of one service over TLS on the listener, which it closes at
// Close, and writes its credentials to a directory.
func Start(lis net.Listener, dir, service, namespace string) (*Server, error) {
	host, _, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		return nil, err
	}
	cert, ca, err := certificate(host)
	if err != nil {
		return nil, fmt.Errorf("make the certificate of the API: %w", err)
	}
	for name, content := range map[string][]byte{"token": []byte(token + "\n"), "ca.crt": ca} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("write the credentials of the API: %w", err)
		}
	}
	s := &Server{
		service: service, namespace: namespace, done: make(chan error, 1), closing: make(chan struct{}),
		pods: map[string]Pod{}, sets: map[string]int{}, changed: make(chan struct{}), version: 1,
	}
	s.srv = &http.Server{
		Handler: http.HandlerFunc(s.serve), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { s.done <- s.srv.ServeTLS(lis, "", "") }()
	return s, nil
}

// Close ends the server.
func (s *Server) Close() error {
	close(s.closing)
	err := s.srv.Close()
	if serve := <-s.done; !errors.Is(serve, http.ErrServerClosed) {
		err = errors.Join(err, serve)
	}
	return err
}

// Put adds a pod or replaces it.
func (s *Server) Put(p Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "ADDED"
	if _, ok := s.pods[p.Name]; ok {
		kind = "MODIFIED"
	}
	s.pods[p.Name] = p
	s.add(kind, p)
}

// Delete removes a pod.
func (s *Server) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pods[name]
	delete(s.pods, name)
	s.add("DELETED", p)
}

// Scale sets the size of a StatefulSet.
func (s *Server) Scale(set string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets[set] = n
}

// Forget ends all watches, whose versions are too old from now on.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.oldest = s.version
	close(s.changed)
	s.changed = make(chan struct{})
}

// SetDown makes every request fail with 500, and ends the watches.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
	close(s.changed)
	s.changed = make(chan struct{})
}

// Deny refuses to show StatefulSets.
func (s *Server) Deny() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = true
}

// add appends an event. The caller holds mu.
func (s *Server) add(kind string, p Pod) {
	s.version++
	s.events = append(s.events, event{s.version, kind, p})
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	down, denied := s.down, s.denied
	s.mu.Unlock()
	list := "/apis/discovery.k8s.io/v1/namespaces/" + s.namespace + "/endpointslices"
	set, isSet := strings.CutPrefix(r.URL.Path, "/apis/apps/v1/namespaces/"+s.namespace+"/statefulsets/")
	switch {
	case down:
		refuse(w, http.StatusInternalServerError, "etcd is down")
	case r.Header.Get("Authorization") != "Bearer "+token:
		refuse(w, http.StatusUnauthorized, "Unauthorized")
	case isSet && denied:
		refuse(w, http.StatusForbidden, "statefulsets.apps is forbidden")
	case isSet:
		s.serveSet(w, set)
	case r.URL.Path != list || r.URL.Query().Get("labelSelector") != "kubernetes.io/service-name="+s.service:
		refuse(w, http.StatusForbidden, r.URL.String()+" is forbidden")
	case r.URL.Query().Get("watch") == "1":
		s.serveWatch(w, r)
	default:
		s.serveList(w, r)
	}
}

func (s *Server) serveSet(w http.ResponseWriter, name string) {
	s.mu.Lock()
	n, ok := s.sets[name]
	s.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "statefulsets.apps "+name+" not found")
		return
	}
	answer(w, map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": name}, "spec": map[string]any{"replicas": n}})
}

// serveList answers one slice for a page, so that clients have to follow.
func (s *Server) serveList(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.pods))
	from, _ := strconv.Atoi(r.URL.Query().Get("continue")) // absent is 0
	meta, items := map[string]any{"resourceVersion": strconv.Itoa(s.version)}, []any{}
	if from < len(names) {
		items = append(items, s.slice(s.pods[names[from]], s.version))
	}
	if from+1 < len(names) {
		meta["continue"] = strconv.Itoa(from + 1)
	}
	answer(w, map[string]any{"kind": "EndpointSliceList", "metadata": meta, "items": items})
}

// serveWatch sends the events after a version until the client or the server ends it.
func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request) {
	seen, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion")) // absent is 0
	w.Header().Set("Content-Type", "application/json")
	enc, flush := json.NewEncoder(w), http.NewResponseController(w)
	_ = flush.Flush()
	for {
		s.mu.Lock()
		changed, down, tooOld := s.changed, s.down, seen < s.oldest
		var fresh []event
		for _, e := range s.events {
			if e.version > seen {
				fresh = append(fresh, e)
			}
		}
		s.mu.Unlock()
		if tooOld {
			_ = enc.Encode(map[string]any{"type": "ERROR", "object": map[string]any{"kind": "Status", "code": http.StatusGone, "reason": "Expired"}})
			return
		}
		for _, e := range fresh {
			seen = e.version
			if enc.Encode(map[string]any{"type": e.kind, "object": s.slice(e.pod, e.version)}) != nil {
				return
			}
		}
		if flush.Flush() != nil || down {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-s.closing:
			return
		}
	}
}

// slice is the EndpointSlice of a pod. It is never ready, as in a cluster that has just
// started: discovery must not wait for it.
func (s *Server) slice(p Pod, version int) map[string]any {
	endpoint := map[string]any{
		"addresses":  []string{p.IP},
		"conditions": map[string]any{"ready": false, "serving": false, "terminating": p.Terminating},
		"targetRef":  map[string]any{"kind": "Pod", "name": p.Name, "namespace": s.namespace},
	}
	if p.Hostname != "" {
		endpoint["hostname"] = p.Hostname
	}
	return map[string]any{
		"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
		"metadata":  map[string]any{"name": s.service + "-" + p.Name, "resourceVersion": strconv.Itoa(version)},
		"endpoints": []any{endpoint},
		"ports":     []any{map[string]any{"name": "http", "port": 10902}, map[string]any{"name": "grpc", "port": p.Port, "protocol": "TCP"}},
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "code": code, "message": message})
}

// certificate makes a certificate for an address that is its own authority.
func certificate(host string) (cert tls.Certificate, ca []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, IPAddresses: []net.IP{net.ParseIP(host)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return cert, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
