package query

import (
	"bytes"
	"fmt"
	"sync/atomic"

	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// tenantLimits are the limits of tenants: those of the flags, with those of the
// file of limits over them. It may be used concurrently.
type tenantLimits struct {
	flags   fetchLimits
	current atomic.Pointer[limitsFile]
}

// newTenantLimits returns the limits of the flags.
func newTenantLimits(fetch fetchLimits) *tenantLimits {
	l := &tenantLimits{flags: fetch}
	l.current.Store(&limitsFile{})
	return l
}

// limitsFile is one version of the file of limits.
type limitsFile struct {
	Query struct {
		// Default holds for tenants that have no entry, and for what an entry lacks.
		Default ownLimits            `yaml:"default"`
		Tenants map[string]ownLimits `yaml:"tenants"`
	} `yaml:"query"`
}

// ownLimits are those of one tenant. Those that are absent inherit; 0 is no limit.
type ownLimits struct {
	// MaxConcurrent bounds the queries that are evaluated at the same time, and
	// MaxMemory the memory of all requests of the tenant.
	MaxConcurrent *int64 `yaml:"max_concurrent"`
	MaxMemory     *size  `yaml:"max_memory"`
	// The others bound one request.
	MaxSamples       *int64 `yaml:"max_samples"`
	MaxFetchedSeries *int64 `yaml:"max_fetched_series"`
	MaxFetchedChunks *int64 `yaml:"max_fetched_chunks"`
	MaxFetchedBytes  *size  `yaml:"max_fetched_bytes"`
	MaxResultPoints  *int64 `yaml:"max_result_points"`
	MaxListEntries   *int64 `yaml:"max_list_entries"`
}

// size is a number of bytes with a unit.
type size int64

// UnmarshalYAML reads the size; errors name the line.
func (s *size) UnmarshalYAML(n *yaml.Node) error {
	var b flags.Bytes
	if err := b.Set(n.Value); err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is not a size such as 512MiB", n.Line, n.Value)
	}
	*s = size(b)
	return nil
}

// CheckLimits checks the content of a file of limits, as the querier does when it reads
// the file.
func CheckLimits(content []byte) error {
	_, err := parseLimitsFile(content)
	return err
}

// parseLimitsFile reads a file of limits; unknown keys are errors, which name the
// line. An empty file has no limits.
func parseLimitsFile(content []byte) (*limitsFile, error) {
	f := &limitsFile{}
	if len(bytes.TrimSpace(content)) == 0 {
		return f, nil
	}
	if err := flags.DecodeYAML(content, f); err != nil {
		return nil, err
	}
	if err := f.Query.Default.validate(); err != nil {
		return nil, fmt.Errorf("query.default: %w", err)
	}
	for id, own := range f.Query.Tenants {
		if err := tenant.Validate(id); err != nil {
			return nil, fmt.Errorf("query.tenants: %w", err)
		}
		if err := own.validate(); err != nil {
			return nil, fmt.Errorf("query.tenants: %q: %w", id, err)
		}
	}
	return f, nil
}

func (o *ownLimits) validate() error {
	for _, l := range append(o.ofRequest(), ownLimit{"max_concurrent", o.MaxConcurrent}, ownLimit{"max_memory", (*int64)(o.MaxMemory)}) {
		if l.value != nil && *l.value < 0 {
			return fmt.Errorf("%s must not be negative", l.key)
		}
	}
	return nil
}

// ownLimit is a limit with its key; nil where it is absent.
type ownLimit struct {
	key   string
	value *int64
}

// ofRequest are the limits of one request, in the order of fetchLimits.all.
func (o *ownLimits) ofRequest() []ownLimit {
	return []ownLimit{
		{"max_samples", o.MaxSamples},
		{"max_fetched_series", o.MaxFetchedSeries},
		{"max_fetched_chunks", o.MaxFetchedChunks},
		{"max_fetched_bytes", (*int64)(o.MaxFetchedBytes)},
		{"max_result_points", o.MaxResultPoints},
		{"max_list_entries", o.MaxListEntries},
	}
}

// set switches to another version of the file.
func (l *tenantLimits) set(f *limitsFile) { l.current.Store(f) }

// over calls f with the limits of each of the tenants that id names, those of the
// defaults first.
func (l *tenantLimits) over(id string, f func(o *ownLimits)) {
	file := l.current.Load()
	for _, one := range tenant.Split(id) {
		own := file.Query.Default
		if o, ok := file.Query.Tenants[one]; ok {
			own = o.over(own)
		}
		f(&own)
	}
}

// over returns base with the limits that o has.
func (o ownLimits) over(base ownLimits) ownLimits {
	inherit(&o.MaxConcurrent, base.MaxConcurrent)
	inherit(&o.MaxMemory, base.MaxMemory)
	inherit(&o.MaxSamples, base.MaxSamples)
	inherit(&o.MaxFetchedSeries, base.MaxFetchedSeries)
	inherit(&o.MaxFetchedChunks, base.MaxFetchedChunks)
	inherit(&o.MaxFetchedBytes, base.MaxFetchedBytes)
	inherit(&o.MaxResultPoints, base.MaxResultPoints)
	inherit(&o.MaxListEntries, base.MaxListEntries)
	return o
}

func inherit[T any](to **T, from *T) {
	if *to == nil {
		*to = from
	}
}

// concurrent returns how many queries of the tenant are evaluated at once; 0 means
// no limit. A request of several tenants has the smallest limit of all.
func (l *tenantLimits) concurrent(id string) int {
	var most int64
	l.over(id, func(o *ownLimits) { most = smaller(most, o.MaxConcurrent) })
	return int(most)
}

// memory returns how many bytes the requests of the tenant may hold; 0 means no
// limit of its own.
func (l *tenantLimits) memory(id string) int64 {
	var most int64
	l.over(id, func(o *ownLimits) { most = smaller(most, (*int64)(o.MaxMemory)) })
	return most
}

// fetch returns the limits of one request of the tenant. A request of several
// tenants has the smallest of each.
func (l *tenantLimits) fetch(id string) fetchLimits {
	var out fetchLimits
	first := true
	l.over(id, func(o *ownLimits) {
		one := l.flags
		one.Own = map[string]bool{}
		for i, to := range one.all() {
			if own := o.ofRequest()[i]; own.value != nil {
				*to, one.Own[own.key] = *own.value, true
			}
		}
		if first {
			out, first = one, false
			return
		}
		for i, to := range out.all() {
			if v := smaller(*to, one.all()[i]); v != *to {
				*to = v
				key := o.ofRequest()[i].key
				out.Own[key] = one.Own[key]
			}
		}
	})
	return out
}

// smaller returns the smaller of two limits, of which 0 and nil are none.
func smaller(a int64, b *int64) int64 {
	if b == nil || *b == 0 || a > 0 && a < *b {
		return a
	}
	return *b
}
