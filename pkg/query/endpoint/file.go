package endpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// File is the endpoint configuration file.
type File struct {
	Default   *ClientConfig `yaml:"default_client_config"`
	Endpoints []fileSpec    `yaml:"endpoints"`
}

type fileSpec struct {
	Address       string        `yaml:"address"`
	Strict        bool          `yaml:"strict"`
	Group         bool          `yaml:"group"`
	ServiceConfig string        `yaml:"service_config"`
	Client        *ClientConfig `yaml:"client_config"`
}

// ParseFile reads an endpoint configuration; unknown keys are errors. source
// names it in messages.
func ParseFile(source string, content []byte) (*File, error) {
	f := &File{}
	if err := flags.DecodeYAML(content, f); err != nil {
		return nil, fmt.Errorf("parse endpoint configuration %s: %w", source, err)
	}
	if err := f.Default.Validate(); err != nil {
		return nil, fmt.Errorf("endpoint configuration %s: default_client_config: %w", source, err)
	}
	for _, s := range f.Specs() {
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("endpoint configuration %s: %w", source, err)
		}
	}
	return f, nil
}

// Specs returns the endpoints of the file.
func (f *File) Specs() []Spec {
	out := make([]Spec, 0, len(f.Endpoints))
	for _, e := range f.Endpoints {
		out = append(out, Spec(e))
	}
	return out
}

// targetGroup is an entry of a Prometheus file_sd file. Its labels do not
// matter here.
type targetGroup struct {
	Targets []string          `yaml:"targets"`
	Labels  map[string]string `yaml:"labels"`
}

// ParseTargets reads a file_sd file of Prometheus and returns its addresses. Unknown keys
// and addresses that cannot be used are errors.
func ParseTargets(content []byte) ([]string, error) {
	var groups []targetGroup
	if err := flags.DecodeYAML(content, &groups); err != nil {
		return nil, err
	}
	var out []string
	for _, g := range groups {
		for _, address := range g.Targets {
			if _, _, err := splitAddress(address); err != nil {
				return nil, err
			}
			out = append(out, address)
		}
	}
	return out, nil
}

// readSDFiles returns the sorted addresses in all files that match the
// patterns, and the patterns that match none. JSON is YAML, too.
func readSDFiles(patterns []string) (out, unmatched []string, err error) {
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err != nil {
			return nil, nil, fmt.Errorf("discovery file pattern %q: %w", p, err)
		}
		if len(paths) == 0 {
			unmatched = append(unmatched, p)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, nil, fmt.Errorf("read discovery file: %w", err)
			}
			targets, err := ParseTargets(content)
			if err != nil {
				return nil, nil, fmt.Errorf("discovery file %s: %w", path, err)
			}
			out = append(out, targets...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), unmatched, nil
}
