package requestlog

import (
	"log/slog"
	"strings"
)

// Log writes the lines of requests. It may be used concurrently.
type Log struct {
	config Config
	logger *slog.Logger
}

// New returns a log that writes to logger, whose level applies, too.
func New(c Config, logger *slog.Logger) *Log { return &Log{config: c, logger: logger} }

// Bounds of what clients send, in bytes.
const (
	maxPath   = 512
	maxTenant = 256
	maxUser   = 64
	maxError  = 512
)

// bounded returns at most n bytes of a text that a client chose.
func bounded(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// appendText adds a key for a text that is not empty.
func appendText(attrs []slog.Attr, key, text string) []slog.Attr {
	if text == "" {
		return attrs
	}
	return append(attrs, slog.String(key, text))
}
