package requestid

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAccept_TakesSaneIDsOnly(t *testing.T) {
	for _, id := range []string{"a", "4bf92f3577b34da6a3ce929d0e0e4736", "x/y:z~!", strings.Repeat("a", 128)} {
		require.Equal(t, id, Accept(id))
	}
	seen := map[string]bool{}
	for _, id := range []string{"", " ", "a b", "a\nlevel=error", "a\x00", "ü", "a\x7f", strings.Repeat("a", 129)} {
		got := Accept(id)
		require.Len(t, got, 26, "%q", id)
		require.False(t, seen[got])
		seen[got] = true
	}
}

func TestPart_IsUniqueWithinTheBound(t *testing.T) {
	require.Equal(t, "a.1", Part("a", "1"))
	long := strings.Repeat("a", 128)
	require.NotEqual(t, Part(long, "1"), Part(long, "2"))
	require.Len(t, Part(long, "1"), 128)
	require.Equal(t, Part(long, "1"), Accept(Part(long, "1")))
}

func TestHandler_AnswersWithTheID(t *testing.T) {
	inner := ""
	h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner = FromContext(r.Context())
		http.Error(w, Text(w.Header(), http.StatusInternalServerError, "no"), http.StatusInternalServerError)
	}))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("X-Request-ID", "mine")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, "mine", inner)
	require.Equal(t, "mine", w.Header().Get(Header))
	require.Equal(t, "no (request id mine)\n", w.Body.String())
	r.Header.Set("X-Request-ID", "two words")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, inner, w.Header().Get(Header))
	require.Len(t, inner, 26)
	require.Equal(t, "no", Text(w.Header(), 400, "no"))
}
