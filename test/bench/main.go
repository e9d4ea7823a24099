// Command bench runs the benchmarks with limits of this project and prints a table: each as a ratio to its limit, measured in
// the same run, or as a count. Names of rows as arguments run only those.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	if err := bench(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench runs the rows of the given names, or all, and prints the table.
func bench(names []string) error {
	var chosen []row
	for _, r := range rows() {
		if len(names) == 0 || slices.Contains(names, r.name) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("there is no row of these names: %v", names)
	}
	fmt.Printf("%s %s/%s, %d cores, commit %s\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), revision())
	runs := map[string][]result{} // by package and benchmark, as rows share runs
	var lines []string
	for _, r := range chosen {
		key := r.pkg + " " + r.bench
		if runs[key] == nil {
			got, err := run(r)
			if err != nil {
				return err
			}
			runs[key] = got
		}
		lines = append(lines, r.lines(runs[key])...)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nrow\tbenchmark\tfigure\ttarget\t\tof")
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
	return w.Flush()
}

// result is one line of the output of a benchmark.
type result struct {
	name    string
	metrics map[string]float64
}

func run(r row) ([]result, error) {
	// The profile is that of make build, also for what is measured within the test.
	args := []string{"test", "-pgo", "cmd/hindsight/hindsight.pgo", "-run", "^$", "-bench", r.bench, "-benchmem", "-timeout", "30m"}
	if r.times != "" {
		args = append(args, "-benchtime", r.times)
	}
	fmt.Printf("%s: %s\n", r.name, r.what)
	cmd := exec.Command("go", append(args, r.pkg)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, out)
	}
	var results []result
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if res, ok := parse(s.Text()); ok {
			fmt.Println("  " + s.Text())
			results = append(results, res)
		}
	}
	if len(results) == 0 {
		return nil, fmt.Errorf("%s ran no benchmark:\n%s", cmd, out)
	}
	return results, nil
}

// parse reads "BenchmarkX-2  10  123 ns/op  4.5 ratio".
func parse(line string) (result, bool) {
	f := strings.Fields(line)
	if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
		return result{}, false
	}
	r := result{name: strings.TrimPrefix(f[0], "Benchmark"), metrics: map[string]float64{}}
	for i := 2; i+1 < len(f); i += 2 {
		v, err := strconv.ParseFloat(f[i], 64)
		if err != nil {
			return result{}, false
		}
		r.metrics[f[i+1]] = v
	}
	return r, true
}

// lines returns the lines of the table for the results that have the row's metric.
func (r row) lines(results []result) []string {
	var out []string
	for _, res := range results {
		v, ok := res.metrics[r.unit]
		if !ok {
			continue
		}
		verdict := "met"
		if v > r.target {
			verdict = "MISSED"
		}
		out = append(out, fmt.Sprintf("%s\t%s\t%.4g\t%.4g\t%s\t%s", r.name, res.name, v, r.target, verdict, r.limit))
	}
	if len(out) == 0 {
		out = append(out, fmt.Sprintf("%s\t\t\t%.4g\tNO FIGURE\t%s: %s", r.name, r.target, r.unit, r.limit))
	}
	return out
}

func revision() string {
	out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
