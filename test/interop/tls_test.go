package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// identities are certificates of one authority: of the servers and of the clients of a site.
type identities struct {
	ca, serverCert, serverKey, clientCert, clientKey string
	client                                           *tls.Config
}

// identities makes the certificates of the site.
func (s *site) identities() *identities {
	s.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(s, err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	require.NoError(s, err)
	root, err = x509.ParseCertificate(der)
	require.NoError(s, err)
	issue := func(name string) (cert, private string) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(s, err)
		leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			Subject: pkix.Name{CommonName: name, Organization: []string{"tenant-of-" + name}}, IPAddresses: []net.IP{net.ParseIP(s.host)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, root, &own.PublicKey, key)
		require.NoError(s, err)
		raw, err := x509.MarshalPKCS8PrivateKey(own)
		require.NoError(s, err)
		return s.pem(name+".crt", "CERTIFICATE", leaf), s.pem(name+".key", "PRIVATE KEY", raw)
	}
	out := &identities{ca: s.pem("ca.crt", "CERTIFICATE", der)}
	out.serverCert, out.serverKey = issue("server")
	out.clientCert, out.clientKey = issue("client")
	pair, err := tls.LoadX509KeyPair(out.clientCert, out.clientKey)
	require.NoError(s, err)
	out.client = &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool()}
	out.client.RootCAs.AddCert(root)
	return out
}

func (s *site) pem(name, kind string, content []byte) string {
	s.Helper()
	return s.file(name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})))
}

// serves are the flags of a gRPC server that wants certificates of its clients.
func (i *identities) serves() []string {
	return []string{"--grpc-server-tls-cert=" + i.serverCert, "--grpc-server-tls-key=" + i.serverKey, "--grpc-server-tls-client-ca=" + i.ca}
}

// asks are the flags of a querier.
func (i *identities) asks() []string {
	return []string{"--grpc-client-tls-secure", "--grpc-client-tls-cert=" + i.clientCert, "--grpc-client-tls-key=" + i.clientKey, "--grpc-client-tls-ca=" + i.ca}
}

// forwards are the flags of a receiver with mutual TLS on all of its servers, towards its peers
// too.
func (i *identities) forwards() []string {
	return append(i.serves(),
		"--remote-write.server-tls-cert="+i.serverCert, "--remote-write.server-tls-key="+i.serverKey, "--remote-write.server-tls-client-ca="+i.ca,
		"--remote-write.client-tls-secure", "--remote-write.client-tls-cert="+i.clientCert, "--remote-write.client-tls-key="+i.clientKey, "--remote-write.client-tls-ca="+i.ca,
		"--receive.tenant-certificate-field=organization")
}

// With mutual TLS everywhere, queriers of both programs read sidecars, stores, receivers and
// queriers of both, a ring of both replicates, and the certificate of a sender is its tenant.
func TestTLS_BetweenThePrograms(t *testing.T) {
	s := newSite(t)
	i := s.identities()
	shop := target(t, s.host)
	bucket := s.bucket("bucket")
	s.upload(hindsight, bucket, s.localBlocks("local"), `cluster="eu"`, `replica="a"`)
	var stores []*node
	for n, p := range programs() {
		name := "prometheus-" + string(p)
		prom := s.prometheus(name, s.pairConfig(fmt.Sprint(n), shop, ""))
		stores = append(stores,
			s.run(p, "sidecar", "sidecar-"+string(p), append(i.serves(), "--tsdb.path="+s.path(name), "--prometheus.url="+prom.url())...),
			s.run(p, "store", "store-"+string(p), append(i.serves(), bucket, "--data-dir="+s.mkdir("store-"+string(p)))...))
	}
	r := s.newRing("ketama", 3, []program{thanos, hindsight, thanos, hindsight}, i.forwards()...)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: i.client}}
	defer client.CloseIdleConnections()
	const rounds = 2
	for range rounds {
		for n := range r.nodes {
			r.wrote = r.wrote.Add(time.Second)
			var series []prompb.TimeSeries
			for k := range 50 {
				series = append(series, harness.TimeSeries([]prompb.Sample{{Timestamp: r.wrote.UnixMilli(), Value: float64(k)}}, "__name__", "written", "series", fmt.Sprint(k)))
			}
			w := harness.Writer{URL: "https://" + r.nodes[n].write + "/api/v1/receive", Client: client}
			eventually(t, 30*time.Second, func() error { _, err := w.Write(series); return err })
		}
	}
	stores = append(stores, r.nodes...)
	over := map[program]*node{}
	for _, p := range programs() {
		over[p] = s.querier(p, "query-"+string(p), stores, append(i.asks(), i.serves()...)...)
	}
	for _, p := range programs() {
		eventually(t, 20*time.Second, func() error {
			got := counts(t, over[p], fmt.Sprintf(`count(count_over_time(written{tenant_id="tenant-of-client"}[5m]) == %d)`, rounds*len(r.nodes)), r.wrote)
			if got != "=150 " {
				return fmt.Errorf("%s: copies with all samples: %s", p, got)
			}
			return nil
		})
	}
	now := time.Now()
	start, end := time.UnixMilli(epoch()+hour), time.UnixMilli(epoch()+6*hour)
	questions := append(overRange(start, end, "600", `temperature`, `sum(rate(requests_total[1h]))`, `latency`), atTime(now, `count by (replica) (shop_stock)`)...)
	questions = append(questions, each(atTime(r.wrote, `written`, `written[5m]`), "dedup", "false")...)
	same(t, over[thanos], over[hindsight], questions...)
	for _, below := range programs() {
		for _, above := range programs() {
			top := s.querier(above, string(above)+"-over-"+string(below), []*node{over[below]}, i.asks()...)
			same(t, over[hindsight], top, overRange(start, end, "600", `temperature`, `sum(rate(requests_total[1h]))`)...)
			s.stop(top)
		}
	}
	// A querier without a certificate gets nothing.
	for _, p := range programs() {
		q := s.run(p, "query", "stranger-"+string(p), "--grpc-client-tls-secure", "--grpc-client-tls-ca="+i.ca, "--endpoint="+stores[0].grpc, "--endpoint="+stores[2].grpc)
		time.Sleep(time.Second) // for the first look at the stores
		require.NoError(t, q.has(0), "%s reads a store that wants certificates", p)
	}
}
