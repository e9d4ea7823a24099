package requestlog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// file is the configuration in YAML, in the form of Thanos.
type file struct {
	Options *options     `yaml:"options"`
	HTTP    protocolHTTP `yaml:"http"`
	GRPC    protocolGRPC `yaml:"grpc"`
}

type options struct {
	Level    string   `yaml:"level"`
	Decision decision `yaml:"decision"`
}

type decision struct {
	LogStart bool `yaml:"log_start"`
	LogEnd   bool `yaml:"log_end"`
}

type protocolHTTP struct {
	Options *options    `yaml:"options"`
	Config  []httpMatch `yaml:"config"`
}

type protocolGRPC struct {
	Options *options    `yaml:"options"`
	Config  []grpcMatch `yaml:"config"`
}

// httpMatch chooses requests by their path and port; port 0 is any.
type httpMatch struct {
	Path string `yaml:"path"`
	Port uint16 `yaml:"port"`
}

// grpcMatch chooses calls by their service and method.
type grpcMatch struct {
	Service string `yaml:"service"`
	Method  string `yaml:"method"`
}

// rule says which lines of a protocol are written.
type rule struct {
	start, end bool
	level      slog.Level
}

// Config says which requests are logged. The zero value logs none.
type Config struct {
	http, grpc rule
	httpOnly   []httpMatch     // empty: all
	grpcOnly   map[string]bool // full names of methods; empty: all
}

// Parse reads a configuration. Empty content logs nothing.
func Parse(content []byte) (Config, error) {
	var f file
	if len(bytes.TrimSpace(content)) > 0 {
		if err := flags.DecodeYAML(content, &f); err != nil {
			return Config{}, err
		}
	}
	var c Config
	var errs []error
	global, err := f.Options.rule("options", rule{})
	errs = append(errs, err)
	c.http, err = f.HTTP.Options.rule("http.options", global)
	errs = append(errs, err)
	c.grpc, err = f.GRPC.Options.rule("grpc.options", global)
	errs = append(errs, err)
	for i, m := range f.HTTP.Config {
		if m.Path == "" || m.Path[0] != '/' {
			errs = append(errs, fmt.Errorf("http.config[%d]: path is %q; it must begin with /", i, m.Path))
		}
	}
	c.httpOnly = f.HTTP.Config
	if len(f.GRPC.Config) > 0 {
		c.grpcOnly = map[string]bool{}
	}
	for i, m := range f.GRPC.Config {
		if m.Service == "" || m.Method == "" {
			errs = append(errs, fmt.Errorf("grpc.config[%d]: service and method must both be given", i))
		}
		c.grpcOnly["/"+m.Service+"/"+m.Method] = true
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// rule returns the rule of the options, which replace the global ones as a whole where
// they are given.
func (o *options) rule(name string, global rule) (rule, error) {
	if o == nil || *o == (options{}) {
		return global, nil
	}
	r := rule{start: o.Decision.LogStart, end: o.Decision.LogEnd}
	if r.start && !r.end {
		return rule{}, fmt.Errorf("%s.decision: log_start needs log_end", name)
	}
	switch o.Level {
	case "DEBUG":
		r.level = slog.LevelDebug
	case "INFO":
		r.level = slog.LevelInfo
	case "WARNING":
		r.level = slog.LevelWarn
	case "ERROR":
		r.level = slog.LevelError
	default:
		return rule{}, fmt.Errorf("%s.level is %q; it must be DEBUG, INFO, WARNING or ERROR", name, o.Level)
	}
	return r, nil
}

// logs reports whether any line is written.
func (r rule) logs() bool { return r.start || r.end }
