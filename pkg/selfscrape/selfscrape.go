// Package selfscrape scrapes the metrics of a process into its own storage, with the
// scraper of Prometheus, so that up, staleness and intervals are as usual. The scrape
// goes through memory and needs neither port nor credentials.
package selfscrape

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	config_util "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/test/bufconn"
)

const job = "hindsight"

// Config names the metrics, the labels of the samples, and the storage.
type Config struct {
	// Gatherer has the metrics.
	Gatherer prometheus.Gatherer
	// Instance is the value of the label instance.
	Instance string
	Into     storage.Appendable
	Logger   *slog.Logger
}

// Run scrapes every 15 s until ctx is cancelled.
func Run(ctx context.Context, c Config) error {
	lis := bufconn.Listen(64 << 10)
	srv := &http.Server{Handler: promhttp.HandlerFor(c.Gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true})}
	m, err := manager(c, lis)
	if err != nil {
		return err
	}
	targets := make(chan map[string][]*targetgroup.Group, 1)
	targets <- map[string][]*targetgroup.Group{job: {{
		Source:  job,
		Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(c.Instance)}},
	}}}
	var g errgroup.Group
	g.Go(func() error { return m.Run(targets) })
	g.Go(func() error {
		if err := srv.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the own metrics: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		m.Stop()
		return srv.Close()
	})
	return g.Wait()
}

// manager returns a scrape manager with one job that connects through lis.
func manager(c Config, lis *bufconn.Listener) (*scrape.Manager, error) {
	opts := &scrape.Options{
		DiscoveryReloadOnStartup: true,
		HTTPClientOptions: []config_util.HTTPClientOption{
			config_util.WithDialContextFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
				return lis.DialContext(ctx)
			}),
		},
	}
	// Metrics of the scraper could collide with those of another scraper in the
	// process.
	m, err := scrape.NewManager(opts, c.Logger, nil, c.Into, nil, prometheus.NewRegistry())
	if err != nil {
		return nil, fmt.Errorf("make the scraper of the own metrics: %w", err)
	}
	cfg, err := config.Load(`
global:
  scrape_interval: 15s
  scrape_timeout: 10s
scrape_configs:
  - job_name: `+job+`
`, c.Logger)
	if err != nil {
		return nil, fmt.Errorf("configure the scraper of the own metrics: %w", err)
	}
	if err := m.ApplyConfig(cfg); err != nil {
		return nil, fmt.Errorf("configure the scraper of the own metrics: %w", err)
	}
	return m, nil
}
