package provider

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// kitLogger passes what objstore logs on to slog. It exists because objstore's
// constructors take a logger of go-kit.
type kitLogger struct{ to *slog.Logger }

func newKitLogger(l *slog.Logger) log.Logger { return kitLogger{to: l} }

func (k kitLogger) Log(keyvals ...any) error {
	lvl, msg := slog.LevelInfo, "object storage client"
	attrs := make([]any, 0, len(keyvals))
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch key := fmt.Sprint(keyvals[i]); key {
		case "level":
			lvl = slogLevel(keyvals[i+1])
		case "msg":
			msg = fmt.Sprint(keyvals[i+1])
		default:
			attrs = append(attrs, slog.Any(key, keyvals[i+1]))
		}
	}
	k.to.Log(context.Background(), lvl, msg, attrs...)
	return nil
}

func slogLevel(v any) slog.Level {
	switch v {
	case level.DebugValue():
		return slog.LevelDebug
	case level.WarnValue():
		return slog.LevelWarn
	case level.ErrorValue():
		return slog.LevelError
	}
	return slog.LevelInfo
}
