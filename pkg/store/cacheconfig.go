package store

import (
	"fmt"

	"github.com/alecthomas/kingpin/v2"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// cacheConfig is the YAML of --index-cache.config.
type cacheConfig struct {
	Type   string `yaml:"type"`
	Config struct {
		MaxSize     size `yaml:"max_size"`
		MaxItemSize size `yaml:"max_item_size"` // pages have one size
	} `yaml:"config"`
	EnabledItems []string `yaml:"enabled_items"` // pages hold all kinds
	TTL          string   `yaml:"ttl"`           // applies to shared caches
}

// memoryBytes returns how much memory pages may take.
func (c *Config) memoryBytes() (int64, error) {
	b, err := c.IndexCache.Content()
	if err != nil || len(b) == 0 {
		return c.IndexCacheSize.Int64(), err
	}
	n, err := ParseIndexCache(b)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.IndexCache.Source(), err)
	}
	return n, nil
}

// ParseIndexCache reads the YAML of --index-cache.config and returns how much memory
// pages may take. Unknown keys are errors.
func ParseIndexCache(content []byte) (int64, error) {
	cc := cacheConfig{}
	cc.Config.MaxSize = 250 << 20
	if err := flags.DecodeYAML(content, &cc); err != nil {
		return 0, err
	}
	if cc.Type != "IN-MEMORY" {
		return 0, fmt.Errorf("cache type %q is not supported, only IN-MEMORY is", cc.Type)
	}
	return int64(cc.Config.MaxSize), nil
}

// size is a number of bytes, as a number or with a unit.
type size int64

// UnmarshalYAML reads either form.
func (s *size) UnmarshalYAML(n *yaml.Node) error {
	var num int64
	if err := n.Decode(&num); err == nil {
		*s = size(num)
		return nil
	}
	var b flags.Bytes
	if err := b.Set(n.Value); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*s = size(b.Int64())
	return nil
}

// hidden registers flags that help does not show.
type hidden struct{ r flags.Registrar }

// Flag registers a hidden flag.
func (h hidden) Flag(name, help string) *kingpin.FlagClause { return h.r.Flag(name, help).Hidden() }
