package webconfig

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

func open(t *testing.T, content string) *File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "web.yml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	f, err := Open("--flag", path, nil)
	require.NoError(t, err)
	return f
}

func TestGuard_ManyWrongPasswordsDisplaceNoRightOne(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	require.NoError(t, err)
	f := open(t, fmt.Sprintf("basic_auth_users: {alice: %q}", hash))
	h := f.Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(user, password string) int {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth(user, password)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusOK, ask("alice", "right"))
	for i := range maxChecked + 10 {
		require.Equal(t, http.StatusUnauthorized, ask("alice", fmt.Sprint(i)))
	}
	require.LessOrEqual(t, len(f.checked.wrong), maxChecked)
	// A known password waits for no comparison.
	f.checked.comparing.Lock()
	defer f.checked.comparing.Unlock()
	require.Equal(t, http.StatusOK, ask("alice", "right"))
}

func TestOpen_NilAdmitsEverything(t *testing.T) {
	f, err := Open("--flag", "", nil)
	require.NoError(t, err)
	require.Nil(t, f.TLS())
	require.False(t, f.VerifiesClients())
	require.NoError(t, f.Reload())
	w := httptest.NewRecorder()
	f.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	require.Equal(t, http.StatusTeapot, w.Code)
}
