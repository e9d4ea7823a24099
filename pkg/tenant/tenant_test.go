package tenant

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValidate(t *testing.T) {
	for _, good := range []string{"a", "default-tenant", "team.a", "team_ä", "1"} {
		require.NoError(t, Validate(good), good)
	}
	for _, bad := range []string{
		"", ".", "..", "/", "a/b", "/a", "a/", `a\b`, "../a", ".hidden", "lost+found", "hashring-members.json", "hints-a-0000000000000001.hint",
		"a\x00b", "a\nb", "\xff", strings.Repeat("x", maxLength+1),
	} {
		require.ErrorIs(t, Validate(bad), ErrInvalid, "%q", bad)
	}
}

func TestFromHTTP(t *testing.T) {
	src := Source{Headers: []string{Header, OrgHeader}, Default: Default}
	check := func(src Source, want string, header ...string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		got, err := FromHTTP(r, src)
		if want == "" {
			require.ErrorIs(t, err, ErrInvalid)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	check(src, Default)
	check(src, "a", Header, "a")
	check(src, "b", OrgHeader, "b")
	check(src, "a", OrgHeader, "b", Header, "a")
	check(src, "", Header, "a/../b")
	check(Source{CertificateField: "commonName"}, "", Header, "a")
}

func TestFromCertificate(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header.Set(Header, "from-header")
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{
		CommonName: "cn", Organization: []string{"o1", "o2"},
	}}}}
	got, err := FromHTTP(r, Source{CertificateField: "organization", Headers: []string{Header}})
	require.NoError(t, err)
	require.Equal(t, "o1", got)
	got, err = FromHTTP(r, Source{CertificateField: "commonName"})
	require.NoError(t, err)
	require.Equal(t, "cn", got)
	_, err = FromHTTP(r, Source{CertificateField: "organizationalUnit"})
	require.ErrorIs(t, err, ErrInvalid)
}

func TestContext(t *testing.T) {
	require.Equal(t, "", FromContext(t.Context()))
	require.Equal(t, "x", FromContext(NewContext(t.Context(), "x")))
}
