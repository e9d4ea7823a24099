package tenantlimits

import (
	"bytes"
	"fmt"
	"net/url"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// Tenant holds the limits of one tenant. 0 means no limit.
type Tenant struct {
	// SizeBytes bounds the decompressed body of a request.
	SizeBytes int64
	// Series and Samples bound the content of a request.
	Series, Samples int64
	// ActiveSeries bounds the series in the head of the tenant on one node.
	// Series that exist already take samples beyond it.
	ActiveSeries int64
	// SamplesPerSecond bounds the samples that a node accepts for the tenant; Burst is
	// how many may come at once, at least those of one second.
	SamplesPerSecond, Burst float64
	// LabelNames, LabelNameLength and LabelValueLength bound each new series.
	LabelNames, LabelNameLength, LabelValueLength int
	// Retention is how long blocks stay on the node that received them, 0 for
	// ever, nil when the file has none.
	Retention *time.Duration
}

// Config is one version of the limits file.
type Config struct {
	// MaxConcurrency bounds the requests under way on this node.
	MaxConcurrency int
	// MaxTenants bounds the tenants that a node stores. It does not affect tenants
	// that are stored already.
	MaxTenants int
	// Meta is the query for the series of tenants in the whole ring; nil disables it.
	Meta     *Meta
	defaults Tenant
	tenants  map[string]Tenant
}

// Meta configures the query for the series of each tenant in the whole ring.
type Meta struct {
	// URL is where a query API begins: the part before /api/v1.
	URL    *url.URL
	Client httpclient.Config
	// Query gives a series for each tenant, with the label tenant.
	Query string
}

// defaultMetaQuery sums over all nodes, and so over all replicas.
const defaultMetaQuery = "sum(prometheus_tsdb_head_series) by (tenant)"

// BoundsSeries reports whether any tenant has a limit of active series.
func (c *Config) BoundsSeries() bool {
	for _, t := range c.tenants {
		if t.ActiveSeries > 0 {
			return true
		}
	}
	return c.defaults.ActiveSeries > 0
}

// For returns the limits of the tenant.
func (c *Config) For(id string) Tenant {
	if t, ok := c.tenants[id]; ok {
		return t
	}
	return c.defaults
}

// Defaults returns the limits of tenants without an entry in the file: none but those
// that protect the node.
func Defaults() *Config {
	return &Config{MaxTenants: 10_000, defaults: Tenant{LabelNames: 200, LabelNameLength: 1024, LabelValueLength: 64 << 10}}
}

// file is the YAML. Members that are absent inherit; 0 is no limit.
type file struct {
	Write struct {
		Global struct {
			MaxConcurrency int               `yaml:"max_concurrency"`
			MaxTenants     *int              `yaml:"max_tenants"`
			URL            string            `yaml:"meta_monitoring_url"`
			Client         httpclient.Config `yaml:"meta_monitoring_http_client"`
			Query          string            `yaml:"meta_monitoring_limit_query"`
		} `yaml:"global"`
		Default entry            `yaml:"default"`
		Tenants map[string]entry `yaml:"tenants"`
	} `yaml:"write"`
}

type entry struct {
	Request struct {
		SizeBytes *int64 `yaml:"size_bytes_limit"`
		Series    *int64 `yaml:"series_limit"`
		Samples   *int64 `yaml:"samples_limit"`
	} `yaml:"request"`
	HeadSeries       *int64   `yaml:"head_series_limit"`
	SamplesPerSecond *float64 `yaml:"samples_per_second_limit"`
	Burst            *float64 `yaml:"samples_burst_limit"`
	LabelNames       *int     `yaml:"label_names_limit"`
	LabelNameLength  *int     `yaml:"label_name_length_limit"`
	LabelValueLength *int     `yaml:"label_value_length_limit"`

	Retention *duration `yaml:"retention"`
}

// duration is a duration in the format of Prometheus.
type duration time.Duration

// UnmarshalYAML reads the duration; errors name the line.
func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := model.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is not a duration such as 36h or 15d", n.Line, n.Value)
	}
	*d = duration(v)
	return nil
}

// Parse reads a limits file; unknown keys are errors, which name the line. An
// empty file gives the defaults.
func Parse(content []byte) (*Config, error) {
	c := Defaults()
	if len(bytes.TrimSpace(content)) == 0 {
		return c, nil
	}
	var f file
	f.Write.Global.Client, f.Write.Global.Query = httpclient.Default(), defaultMetaQuery
	if err := flags.DecodeYAML(content, &f); err != nil {
		return nil, err
	}
	c.MaxConcurrency = max(f.Write.Global.MaxConcurrency, 0)
	set(&c.MaxTenants, f.Write.Global.MaxTenants)
	var err error
	if c.Meta, err = f.meta(); err != nil {
		return nil, fmt.Errorf("write.global: %w", err)
	}
	c.defaults = f.Write.Default.over(c.defaults)
	c.tenants = make(map[string]Tenant, len(f.Write.Tenants))
	for id, e := range f.Write.Tenants {
		if err := tenant.Validate(id); err != nil {
			return nil, fmt.Errorf("limits of a tenant: %w", err)
		}
		c.tenants[id] = e.over(c.defaults)
	}
	return c, nil
}

// meta returns nil without a URL.
func (f *file) meta() (*Meta, error) {
	g := &f.Write.Global
	if err := g.Client.Validate(); err != nil {
		return nil, fmt.Errorf("meta_monitoring_http_client: %w", err)
	}
	if g.URL == "" {
		return nil, nil
	}
	u, err := url.Parse(g.URL)
	if err != nil {
		return nil, fmt.Errorf("meta_monitoring_url: %s", flags.RedactText(err.Error()))
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("meta_monitoring_url: %q is not a URL such as http://query.example:10902", flags.RedactText(g.URL))
	}
	return &Meta{URL: u, Client: g.Client, Query: g.Query}, nil
}

// over returns base with the members that the entry has.
func (e *entry) over(base Tenant) Tenant {
	set(&base.SizeBytes, e.Request.SizeBytes)
	set(&base.Series, e.Request.Series)
	set(&base.Samples, e.Request.Samples)
	set(&base.ActiveSeries, e.HeadSeries)
	set(&base.SamplesPerSecond, e.SamplesPerSecond)
	set(&base.Burst, e.Burst)
	set(&base.LabelNames, e.LabelNames)
	set(&base.LabelNameLength, e.LabelNameLength)
	set(&base.LabelValueLength, e.LabelValueLength)
	if e.Retention != nil {
		own := time.Duration(*e.Retention)
		base.Retention = &own
	}
	base.Burst = max(base.Burst, base.SamplesPerSecond)
	return base
}

func set[T int | int64 | float64](to *T, from *T) {
	if from != nil {
		*to = max(*from, 0)
	}
}
