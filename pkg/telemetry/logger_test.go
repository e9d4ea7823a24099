package telemetry

import (
	"bytes"
	"errors"
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

func TestLogger_HidesSecretsOfURLs(t *testing.T) {
	for _, format := range []string{"logfmt", "json", "journald"} {
		var out bytes.Buffer
		NewLogger(Config{LogLevel: "info", LogFormat: format}, &out).
			Info("from http://a:hush@b", "url", "http://a:hush@b/?token=hush", "err", errors.New(`Get "http://a:hush@b/?x=1&secret=hush": no`))
		require.NotContains(t, out.String(), "hush", format)
		require.Contains(t, out.String(), "x=1", format)
	}
}
