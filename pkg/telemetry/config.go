// Package telemetry makes the logger, the metrics registry and the tracer of a process
// from the flags that all commands share.
package telemetry

import (
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Config holds the global flags.
type Config struct {
	LogLevel       string
	LogFormat      string
	Tracing        flags.PathOrContent
	AutoMemLimit   bool
	MemLimitRatio  float64
	DebugLogPrefix string
}

// RegisterFlags adds the global flags.
func (c *Config) RegisterFlags(r flags.Registrar) {
	r.Flag("log.level", "Minimum severity to log: error, warn, info or debug.").Default("info").
		EnumVar(&c.LogLevel, "error", "warn", "info", "debug")
	r.Flag("log.format", "Encoding of log lines: logfmt, json or journald.").Default("logfmt").
		EnumVar(&c.LogFormat, "logfmt", "json", "journald")
	c.Tracing.Register(r, "tracing.config", "tracing configuration", true)
	r.Flag("enable-auto-gomemlimit", "Set GOMEMLIMIT from the memory of the cgroup or machine.").
		Default("false").BoolVar(&c.AutoMemLimit)
	r.Flag("auto-gomemlimit.ratio", "Share of the detected memory that GOMEMLIMIT gets.").
		Default("0.9").Float64Var(&c.MemLimitRatio)
	r.Flag("debug.name", "Name added to each log line.").Hidden().StringVar(&c.DebugLogPrefix)
}
