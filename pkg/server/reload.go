package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// Reloader is a Component with configuration that can be read again. Reload applies
// each part that is valid and keeps the last good version of each other part; its
// error names them. There is one call at a time.
type Reloader interface {
	Reload(ctx context.Context) error
}

// reloads reads the configuration again, for a signal or a request.
type reloads struct {
	parts   []func(ctx context.Context) error
	logger  *slog.Logger
	success prometheus.Gauge
	at      prometheus.Gauge
	total   *prometheus.CounterVec

	mu sync.Mutex
}

func newReloads(reg prometheus.Registerer, logger *slog.Logger) *reloads {
	f := promauto.With(reg)
	r := &reloads{
		logger: logger,
		success: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_config_last_reload_successful", Help: "Whether the last reload of the configuration was successful.",
		}),
		at: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_config_last_reload_success_timestamp_seconds", Help: "Time of the last successful reload of the configuration.",
		}),
		total: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_config_reloads_total", Help: "Reloads of the configuration, by result.",
		}, []string{"result"}),
	}
	for _, result := range []string{"success", "error"} {
		r.total.WithLabelValues(result)
	}
	// The process started, so the configuration is valid.
	r.success.Set(1)
	r.at.SetToCurrentTime()
	return r
}

// add appends a part of the configuration.
func (r *reloads) add(part func(ctx context.Context) error) { r.parts = append(r.parts, part) }

// do reads all parts again, also after one of them failed.
func (r *reloads) do(ctx context.Context, why reason.Reason) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, part := range r.parts {
		errs = append(errs, part(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		r.success.Set(0)
		r.total.WithLabelValues("error").Inc()
		r.logger.Error("configuration reload failed", "reason", why, "err", err)
		return err
	}
	r.success.Set(1)
	r.at.SetToCurrentTime()
	r.total.WithLabelValues("success").Inc()
	r.logger.Info("configuration reloaded", "reason", why)
	return nil
}

// reloadTimeout bounds one reload.
const reloadTimeout = time.Minute

// ServeHTTP reloads on POST and PUT, as Prometheus does.
func (r *reloads) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodPost && req.Method != http.MethodPut {
		w.Header().Set("Allow", "POST, PUT")
		errorid.Answer(w, http.StatusMethodNotAllowed, errorid.HTTPMethod, "method not allowed: reload with POST")
		return
	}
	// The reload continues when the client disconnects.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), reloadTimeout)
	defer cancel()
	if err := r.do(ctx, reason.ReloadRequest); err != nil {
		errorid.Answer(w, http.StatusInternalServerError, errorid.ReloadFailed, fmt.Sprintf("failed to reload the configuration: %v", err))
		return
	}
	fmt.Fprintln(w, "OK")
}

// watch reloads for each signal until ctx is cancelled.
func (r *reloads) watch(ctx context.Context, signals <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
			_ = r.do(ctx, reason.ReloadSignal) // logged
			cancel()
		}
	}
}
