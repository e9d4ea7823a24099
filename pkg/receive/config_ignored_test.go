package receive

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/require"
)

func TestRequestLoggingFlag_IsAcceptedWithWarning(t *testing.T) {
	app := kingpin.New("receive", "")
	var cfg Config
	cfg.RegisterFlags(app)
	_, err := app.Parse([]string{"--request.logging-config=http: {}", "--tsdb.path=" + t.TempDir()})
	require.NoError(t, err)
	var log bytes.Buffer
	_, err = New(cfg, Deps{Logger: slog.New(slog.NewTextHandler(&log, nil)), GRPCAddress: "127.0.0.1:0"})
	require.NoError(t, err)
	require.Contains(t, log.String(), "flag=--request.logging-config")
}
