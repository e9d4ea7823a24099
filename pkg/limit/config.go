package limit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// Tenant is what holds for one tenant. 0 means no limit everywhere.
type Tenant struct {
	// SizeBytes bounds the decompressed body of a request.
	SizeBytes int64
	// Series and Samples bound the content of a request.
	Series, Samples int64
	// ActiveSeries bounds the series in the head of the tenant on one node.
	// Series that exist already take samples beyond it.
	ActiveSeries int64
	// SamplesPerSecond bounds what a node takes in for the tenant; Burst is how
	// many may come at once, at least one second's worth.
	SamplesPerSecond, Burst float64
	// LabelNames, LabelNameLength and LabelValueLength bound each new series.
	LabelNames, LabelNameLength, LabelValueLength int
	// Retention is how long blocks stay on the node that received them, 0 for
	// ever; nil when the file does not say.
	Retention *time.Duration
}

// Config is one version of the limits file.
type Config struct {
	// MaxConcurrency bounds the requests under way on this node.
	MaxConcurrency int
	defaults       Tenant
	tenants        map[string]Tenant
}

// For returns what holds for the tenant.
func (c *Config) For(id string) Tenant {
	if t, ok := c.tenants[id]; ok {
		return t
	}
	return c.defaults
}

// Defaults holds for tenants without an entry when the file says nothing: no
// limit but those that protect the node from nonsense.
func Defaults() *Config {
	return &Config{defaults: Tenant{LabelNames: 200, LabelNameLength: 1024, LabelValueLength: 64 << 10}}
}

// file is the YAML. Members that are absent inherit; 0 is no limit.
type file struct {
	Write struct {
		Global struct {
			MaxConcurrency int    `yaml:"max_concurrency"`
			URL            string `yaml:"meta_monitoring_url"`
			Client         any    `yaml:"meta_monitoring_http_client"`
			Query          string `yaml:"meta_monitoring_limit_query"`
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

// duration is one as Prometheus writes it.
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
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	c.MaxConcurrency = max(f.Write.Global.MaxConcurrency, 0)
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

// Error says which limit was exceeded, by whom, and by how much.
type Error struct {
	Limit  string
	Value  int64
	Got    int64
	Tenant string
	// RetryAfter is how long the sender should wait; 0 when waiting is no use.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Got == 0 {
		return fmt.Sprintf("tenant %s is above its limit %s of %d", e.Tenant, e.Limit, e.Value)
	}
	return fmt.Sprintf("tenant %s is above its limit %s of %d: the request has %d", e.Tenant, e.Limit, e.Value, e.Got)
}
