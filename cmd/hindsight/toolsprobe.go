package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/version"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/probe"
	"github.com/hindsight-io/hindsight/pkg/probe/wire"
	"github.com/hindsight-io/hindsight/pkg/server"
)

// The bounds of the flags of tools probe, which bound the size of an answer.
const (
	maxProbeSeries = 1000
	maxProbeSteps  = 10_000
)

// probeConfig holds the flags of tools probe.
type probeConfig struct {
	role         roleConfig
	writeURL     *url.URL
	queryURL     *url.URL
	writeClient  flags.PathOrContent
	queryClient  flags.PathOrContent
	tenant       string
	tenantHeader string
	headers      map[string]string
	protocols    []string
	name         string
	series       int
	interval     time.Duration
	duration     time.Duration
	late         time.Duration
	visible      time.Duration
	recent       time.Duration
	history      time.Duration
	timeout      time.Duration
	exemplars    bool
	federate     bool
	output       string
}

// probeCommand adds the command that writes known series and reads them back.
func probeCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("probe", "Writes known series to receive and reads them back from query, by every path: finds acknowledged samples that are lost, wrong values and duplicates, and measures the delay. It runs until it is stopped, or for --duration. Exit code 0: all that was acknowledged was read; 1: it was not, or a path could not be checked; 2: wrong flags.")
	c := probeConfig{headers: map[string]string{}}
	c.role.register(cmd, false)
	cmd.Flag("write.url", "URL of remote write, such as http://receive:19291/api/v1/receive.").Required().URLVar(&c.writeURL)
	cmd.Flag("query.url", "URL of the querier, before /api/v1.").Required().URLVar(&c.queryURL)
	c.writeClient.Register(cmd, "write.http-client", "credentials, TLS and proxy for writes", true)
	c.queryClient.Register(cmd, "query.http-client", "credentials, TLS and proxy for queries", true)
	cmd.Flag("tenant", "Tenant of all requests; empty sends none.").StringVar(&c.tenant)
	cmd.Flag("tenant-header", "Header that names the tenant.").Default("THANOS-TENANT").StringVar(&c.tenantHeader)
	cmd.Flag("header", "Further header of all requests (repeatable).").PlaceHolder("<name>=<value>").StringMapVar(&c.headers)
	cmd.Flag("protocol", "Version of remote write: 1.0 or 2.0 (repeatable). Each has series of its own.").
		Default(wire.V1, wire.V2).EnumsVar(&c.protocols, wire.V1, wire.V2)
	cmd.Flag("name", "Value of the label probe. Two probes that write to one tenant need different ones.").Default("default").StringVar(&c.name)
	cmd.Flag("series", "Series of each kind and protocol.").Default("4").IntVar(&c.series)
	cmd.Flag("interval", "Time between two samples of a series, and between two rounds of queries.").Default("15s").DurationVar(&c.interval)
	cmd.Flag("duration", "How long to run; 0s is until the process is stopped.").Default("0s").DurationVar(&c.duration)
	cmd.Flag("late", "Delay of a quarter of the samples of one kind, which so arrive out of order; 0s leaves the kind out.").Default("1m").DurationVar(&c.late)
	cmd.Flag("visible-within", "Time after which an acknowledged sample must be readable.").Default("10s").DurationVar(&c.visible)
	cmd.Flag("recent", "Range of the queries.").Default("5m").DurationVar(&c.recent)
	cmd.Flag("history", "Age up to which older data is queried, a range in each round.").Default("24h").DurationVar(&c.history)
	cmd.Flag("timeout", "Longest time of one request.").Default("10s").DurationVar(&c.timeout)
	cmd.Flag("exemplars", "Require the exemplars, which receive stores with --tsdb.max-exemplars only.").Default("false").BoolVar(&c.exemplars)
	cmd.Flag("federate", "Read /federate too.").Default("false").BoolVar(&c.federate)
	cmd.Flag("output", "Form of the result: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: toolsGroup + " probe", run: func(ctx context.Context, s streams) error {
		if err := c.validate(); err != nil {
			return err
		}
		return runRole(ctx, &c.role, s, func(_ context.Context, p *process) (server.Component, error) {
			return newProber(&c, p, s.out)
		})
	}}
}

// validate checks the flags against each other.
func (c *probeConfig) validate() error {
	var err error
	switch {
	case c.interval < 10*time.Millisecond || c.interval%time.Millisecond != 0:
		err = errors.New("--interval must be a number of milliseconds, 10ms or more")
	case c.interval > time.Minute:
		err = errors.New("--interval must be 1m or less: series end for a query after 5m without a sample")
	case c.series < 1 || c.series > maxProbeSeries:
		err = fmt.Errorf("--series must be between 1 and %d", maxProbeSeries)
	case c.late < 0 || c.duration < 0 || c.visible < 0:
		err = errors.New("--late, --duration and --visible-within must not be negative")
	case c.timeout <= 0:
		err = errors.New("--timeout must be positive")
	case c.recent < c.late+c.visible+2*c.interval:
		err = errors.New("--recent must be longer than --late, --visible-within and two of --interval together")
	case c.recent > maxProbeSteps*c.interval:
		err = fmt.Errorf("--recent must be %d of --interval or less", maxProbeSteps)
	case c.history < c.recent:
		err = errors.New("--history must be as long as --recent or longer")
	case c.name == "":
		err = errors.New("--name must not be empty")
	}
	if err != nil {
		return flags.Invalid(err)
	}
	return nil
}

// set returns the series of the flags.
func (c *probeConfig) set() *probe.Set {
	return probe.NewSet(probe.Config{
		Name: c.name, Interval: c.interval, Protocols: slices.Compact(slices.Sorted(slices.Values(c.protocols))), PerKind: c.series,
		LateSteps: int64((c.late + c.interval - 1) / c.interval),
	})
}

// header returns the headers of all requests.
func (c *probeConfig) header() http.Header {
	h := http.Header{}
	if c.tenant != "" {
		h.Set(c.tenantHeader, c.tenant)
	}
	for name, value := range c.headers {
		h.Set(name, value)
	}
	return h
}

// client makes an HTTP client of a configuration.
func (c *probeConfig) client(f *flags.PathOrContent, p *process) (*http.Client, error) {
	content, err := f.Content()
	if err != nil {
		return nil, err
	}
	cfg, err := httpclient.Parse(content)
	if err != nil {
		return nil, flags.Invalid(fmt.Errorf("%s: %w", f.Source(), err))
	}
	cfg.File, cfg.Logger = f.Path(), p.logger
	rt, err := httpclient.NewRoundTripper(cfg, "Hindsight/"+version.Version)
	if err != nil {
		return nil, flags.Invalid(err)
	}
	client := &http.Client{Transport: rt, Timeout: c.timeout}
	p.closers = append(p.closers, func() error { client.CloseIdleConnections(); return nil })
	return client, nil
}

// newProber makes the component of tools probe; the result goes to out.
func newProber(c *probeConfig, p *process, out printer) (*prober, error) {
	write, err := c.client(&c.writeClient, p)
	if err != nil {
		return nil, err
	}
	query, err := c.client(&c.queryClient, p)
	if err != nil {
		return nil, err
	}
	set := c.set()
	pr := &prober{
		cfg: c, set: set, ledger: probe.NewLedger(set), log: p.logger, out: out, result: newProbeResult(c, p.registry),
		writer: &wire.Writer{URL: c.writeURL.String(), Client: write, Header: c.header()},
		reader: &wire.Reader{Base: strings.TrimSuffix(c.queryURL.String(), "/"), Client: query, Header: c.header()},
	}
	return pr, nil
}
