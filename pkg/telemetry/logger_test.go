package telemetry

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// A caller may use the keys of the logger's own attributes.
func TestLogger_AttributesMayHaveItsKeys(t *testing.T) {
	for _, format := range []string{"logfmt", "json", "journald"} {
		var out bytes.Buffer
		NewLogger(Config{LogLevel: "info", LogFormat: format}, &out).Info("m", "time", "noon", "level", 3)
		require.Contains(t, out.String(), "noon", format)
	}
}
