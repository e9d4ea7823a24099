package provider

import (
	"bytes"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
	yamlv2 "gopkg.in/yaml.v2"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// config is a parsed objstore.yml.
type config struct {
	kind    *kind
	prefix  string
	section []byte // the provider's part, as YAML
	// Where the bucket is, for logs and errors.
	bucket, endpoint string
}

// parse reads an objstore.yml strictly: an unknown key at any level is an
// error that names it and its line.
func parse(content []byte) (*config, error) {
	var top struct {
		Type   string    `yaml:"type"`
		Config yaml.Node `yaml:"config"`
		Prefix string    `yaml:"prefix"`
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, invalid(errors.New("object storage configuration is empty; it needs at least a type"))
	}
	if err := flags.DecodeYAML(content, &top); err != nil {
		return nil, invalid(err)
	}
	k, err := kindOf(top.Type)
	if err != nil {
		return nil, invalid(err)
	}
	if err := k.strict(content); err != nil {
		return nil, invalid(err)
	}
	c := &config{kind: k, prefix: top.Prefix}
	if top.Config.Kind != 0 {
		// Nodes keep scalars as written, so that a key such as 0123 does not become a
		// number.
		if c.section, err = yaml.Marshal(&top.Config); err != nil {
			return nil, invalid(err)
		}
	}
	var where map[string]any
	if err := yaml.Unmarshal(c.section, &where); err != nil {
		return nil, invalid(err)
	}
	c.bucket = firstOf(where, "bucket", "container", "container_name", "directory")
	if err := c.checkBucket(); err != nil {
		return nil, invalid(err)
	}
	c.endpoint = firstOf(where, "endpoint", "auth_url", "storage_account", "region")
	return c, nil
}

func firstOf(m map[string]any, keys ...string) string {
	for _, k := range keys {
		if s, ok := m[k].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// name is the type, bucket and endpoint, without secrets.
func (c *config) name() string {
	s := strings.ToLower(c.kind.name) + " " + c.bucket
	if c.endpoint != "" {
		s += " at " + c.endpoint
	}
	return s
}

// strictly decodes the whole document into the shape that provider section C
// gives it, so that lines in errors are those of the file.
func strictly[C any](content []byte) error {
	var doc struct {
		Type   string `yaml:"type"`
		Config C      `yaml:"config"`
		Prefix string `yaml:"prefix"`
	}
	return yamlv2.UnmarshalStrict(content, &doc)
}

// invalid marks an error of the content. The caller names the file or flag.
func invalid(err error) error { return flags.Invalid(flags.YAMLError(err)) }
