package telemetry

import (
	"fmt"
	"log/slog"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
)

// NewRegistry returns a registry with the metrics of the Go runtime, the
// process and the build.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		versioncollector.NewCollector("hindsight"),
	)
	return reg
}

// LimitMemory sets GOMEMLIMIT from the machine where the flags say so; GOMEMLIMIT in
// the environment takes precedence.
func LimitMemory(c Config, logger *slog.Logger) error {
	if !c.AutoMemLimit {
		return nil
	}
	if c.MemLimitRatio <= 0 || c.MemLimitRatio > 1 {
		return fmt.Errorf("--auto-gomemlimit.ratio is %v; it must be above 0 and at most 1", c.MemLimitRatio)
	}
	_, err := memlimit.Set(
		memlimit.WithRatio(c.MemLimitRatio),
		memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)),
		memlimit.WithLogger(logger),
	)
	if err != nil {
		return fmt.Errorf("set the memory limit from the machine: %w", err)
	}
	return nil
}
