package provider

import (
	"fmt"
	"log/slog"

	"github.com/go-kit/log"
	"github.com/go-kit/log/level"
)

// kitLogger writes logs of objstore, whose constructors take a go-kit logger, to slog.
type kitLogger struct{ to *slog.Logger }

func newKitLogger(l *slog.Logger) log.Logger { return kitLogger{to: l} }

func (k kitLogger) Log(keyvals ...any) error {
	write, msg := k.to.Info, "object storage client"
	attrs := make([]any, 0, len(keyvals))
	for i := 0; i+1 < len(keyvals); i += 2 {
		switch key := fmt.Sprint(keyvals[i]); key {
		case "level":
			write = k.at(keyvals[i+1])
		case "msg":
			msg = fmt.Sprint(keyvals[i+1])
		default:
			attrs = append(attrs, slog.Any(key, keyvals[i+1]))
		}
	}
	write(msg, attrs...)
	return nil
}

// at returns the method of slog for a level of go-kit.
func (k kitLogger) at(lvl any) func(msg string, args ...any) {
	switch lvl {
	case level.DebugValue():
		return k.to.Debug
	case level.WarnValue():
		return k.to.Warn
	case level.ErrorValue():
		return k.to.Error
	}
	return k.to.Info
}
