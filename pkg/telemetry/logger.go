package telemetry

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// NewLogger returns the process's logger, writing to w (usually stderr).
func NewLogger(c Config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level(c.LogLevel), ReplaceAttr: fieldStyle(c.LogFormat)}
	var h slog.Handler
	switch c.LogFormat {
	case "json":
		h = slog.NewJSONHandler(w, opts)
	case "journald":
		h = &journald{w: w, mu: &sync.Mutex{}, opts: opts}
	default:
		h = slog.NewTextHandler(w, opts)
	}
	logger := slog.New(identified{h})
	if c.DebugLogPrefix != "" {
		logger = logger.With("name", c.DebugLogPrefix)
	}
	return logger
}

// identified adds the key id to warnings and errors: the id of the page that explains their
// cause, which is an error or a reason among their attributes.
type identified struct{ slog.Handler }

// Handle implements slog.Handler.
func (h identified) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		id, cause := errorid.ID(""), false
		r.Attrs(func(a slog.Attr) bool {
			v := a.Value.Any()
			if _, failed := v.(error); failed {
				cause = true
			}
			if id == "" {
				id = errorid.OfValue(v)
			}
			return a.Key != "id"
		})
		if id == "" && cause {
			id = errorid.Internal
		}
		if id != "" {
			r = r.Clone()
			r.AddAttrs(slog.String("id", id.String()))
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h identified) WithAttrs(as []slog.Attr) slog.Handler {
	return identified{h.Handler.WithAttrs(as)}
}

// WithGroup implements slog.Handler.
func (h identified) WithGroup(name string) slog.Handler { return identified{h.Handler.WithGroup(name)} }

func level(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// fieldStyle writes ts in UTC and level in lower case, as Prometheus and Thanos do.
// journald has its own time stamp.
func fieldStyle(format string) func([]string, slog.Attr) slog.Attr {
	return func(groups []string, a slog.Attr) slog.Attr {
		a.Value = redacted(a.Value)
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			if a.Value.Kind() != slog.KindTime {
				return a // an attribute of the caller that has the same key
			}
			if format == "journald" {
				return slog.Attr{}
			}
			return slog.String("ts", a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z07:00"))
		case slog.LevelKey:
			return slog.String("level", strings.ToLower(a.Value.String()))
		}
		return a
	}
}

// redacted hides the passwords and secret parameters of the URLs in a text or an error:
// errors of HTTP clients have the URLs of their requests.
func redacted(v slog.Value) slog.Value {
	text := ""
	switch x := v.Any().(type) {
	case string:
		text = x
	case error:
		text = x.Error()
	}
	if !strings.Contains(text, "://") {
		return v
	}
	return slog.StringValue(flags.RedactText(text))
}

// journald writes logfmt lines that begin with the syslog priority, which
// systemd-journald reads from a service's stderr (sd-daemon(3)).
type journald struct {
	w    io.Writer
	mu   *sync.Mutex
	opts *slog.HandlerOptions
	with func(slog.Handler) slog.Handler
}

// Enabled implements slog.Handler.
func (j *journald) Enabled(_ context.Context, l slog.Level) bool { return l >= j.opts.Level.Level() }

// Handle implements slog.Handler.
func (j *journald) Handle(ctx context.Context, r slog.Record) error {
	var b strings.Builder
	switch {
	case r.Level >= slog.LevelError:
		b.WriteString("<3>")
	case r.Level >= slog.LevelWarn:
		b.WriteString("<4>")
	case r.Level >= slog.LevelInfo:
		b.WriteString("<6>")
	default:
		b.WriteString("<7>")
	}
	var h slog.Handler = slog.NewTextHandler(&b, j.opts)
	if j.with != nil {
		h = j.with(h)
	}
	if err := h.Handle(ctx, r); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err := io.WriteString(j.w, b.String())
	return err
}

// WithAttrs implements slog.Handler.
func (j *journald) WithAttrs(as []slog.Attr) slog.Handler {
	return j.then(func(h slog.Handler) slog.Handler { return h.WithAttrs(as) })
}

// WithGroup implements slog.Handler.
func (j *journald) WithGroup(name string) slog.Handler {
	return j.then(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (j *journald) then(f func(slog.Handler) slog.Handler) slog.Handler {
	prev := j.with
	next := *j
	next.with = func(h slog.Handler) slog.Handler {
		if prev != nil {
			h = prev(h)
		}
		return f(h)
	}
	return &next
}
