package server

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCommandLine_ShowsNoSecret(t *testing.T) {
	args := os.Args
	defer func() { os.Args = args }()
	os.Args = []string{"hindsight", "all", "--receive.limits-config=password: s3cret", "--log.level", "info"}
	w := httptest.NewRecorder()
	commandLine(w, httptest.NewRequest(http.MethodGet, "/debug/pprof/cmdline", nil))
	require.Equal(t, "hindsight\x00all\x00--receive.limits-config=<REDACTED>\x00--log.level\x00info", w.Body.String())
}
