// Command pgo makes cmd/hindsight/hindsight.pgo, the profile with which make build and the
// image build the program: the compiler inlines and arranges what the profile says is hot.
// It runs benchmarks of queries, compaction and ingest, and gives each the same weight.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/google/pprof/profile"
)

// target is the file that is written, from the root of the repository.
const target = "cmd/hindsight/hindsight.pgo"

// source is a benchmark that gives a profile.
type source struct {
	pkg, bench string
}

func sources() []source {
	return []source{
		{"./test/dashboards", "^BenchmarkProfile$"},
		{"./pkg/compact", "^Benchmark(Downsample|Vertical|Horizontal)$"},
		{"./pkg/receive/bench", "^BenchmarkIngestOneNode$"},
	}
}

func main() {
	if err := collect(); err != nil {
		fmt.Fprintln(os.Stderr, "pgo:", err)
		os.Exit(1)
	}
}

// collect writes the merged profile of all sources.
func collect() (err error) {
	dir, err := os.MkdirTemp("", "hindsight-pgo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var all []*profile.Profile
	for i, s := range sources() {
		p, err := s.profile(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return fmt.Errorf("profile of %s: %w", s.pkg, err)
		}
		all = append(all, p)
	}
	merged, err := profile.Merge(all)
	if err != nil {
		return fmt.Errorf("merge the profiles: %w", err)
	}
	f, err := os.Create(target)
	if err != nil {
		return err
	}
	if err := merged.Write(f); err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	return f.Close()
}

// profile runs the benchmark and returns its profile, scaled to a total of 1e12 ns, without
// what depends on the machine.
func (s source) profile(file string) (*profile.Profile, error) {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", s.bench, "-timeout", "30m", "-o", file+".test", "-cpuprofile", file+".self", s.pkg)
	cmd.Env = append(os.Environ(), "HINDSIGHT_DASHBOARDS_PROFILE="+file)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); err != nil {
		file += ".self" // the work is done in the process of the test
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p, err := profile.ParseData(data)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	// The data and the requests are made by tests.
	p.FilterSamplesByName(nil, regexp.MustCompile(`_test\.|receive/bench\.|testing\.`), nil, nil)
	total := int64(0)
	for _, sample := range p.Sample {
		total += sample.Value[len(sample.Value)-1]
	}
	if total == 0 {
		return nil, fmt.Errorf("%s has no samples", file)
	}
	p.Scale(1e12 / float64(total))
	p.Comments, p.TimeNanos = nil, 0
	for _, m := range p.Mapping {
		m.File, m.BuildID = "", ""
	}
	for _, fn := range p.Function {
		fn.Filename = "" // the compiler looks at names and lines
	}
	for _, sample := range p.Sample {
		sample.Label, sample.NumLabel, sample.NumUnit = nil, nil, nil
	}
	return p.Compact(), nil
}
