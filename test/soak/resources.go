package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process used at one moment when nothing was wrong.
type usage struct {
	name       string
	pid        int
	at         time.Duration // since the beginning
	memory     int64
	files      int
	goroutines int
}

// The bounds of any process (I7); the site is small.
const (
	mostMemory     = 1 << 30
	mostFiles      = 1500
	mostGoroutines = 3000
)

// measure records the usage of all processes of this project.
func (r *run) measure(ctx context.Context) {
	for _, name := range processes() {
		p := r.site.proc(name)
		if role := roleOf(name); role == "s3" || role == "prometheus" || !p.Running() {
			continue
		}
		u := usage{name: name, pid: p.Pid(), at: time.Since(r.began)}
		var err error
		if u.memory, err = p.Resident(); err != nil {
			continue
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
		if err != nil {
			continue
		}
		u.files = len(files)
		page, err := r.metrics(ctx, name)
		if err != nil {
			continue
		}
		u.goroutines = int(sum(page, "go_goroutines"))
		r.mu.Lock()
		r.resource = append(r.resource, u)
		r.mu.Unlock()
	}
}

// metrics is the metrics page of a process.
func (r *run) metrics(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	page, err := r.site.get(ctx, r.site.url(name)+"/metrics")
	return string(page), err
}

// sum adds the values of a metric on a page.
func sum(page, metric string) float64 {
	total := 0.0
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, metric)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(line)
		if v, err := strconv.ParseFloat(fields[len(fields)-1], 64); err == nil {
			total += v
		}
	}
	return total
}

// most is the largest usage of each process.
func (r *run) most() map[string]usage {
	out := map[string]usage{}
	for _, u := range r.resource {
		m := out[u.name]
		m.name = u.name
		m.memory, m.files, m.goroutines = max(m.memory, u.memory), max(m.files, u.files), max(m.goroutines, u.goroutines)
		out[u.name] = m
	}
	return out
}

// bounded checks the usage against the bounds, and that it does not grow all the time.
func (r *run) bounded() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.most() {
		if m.memory > mostMemory || m.files > mostFiles || m.goroutines > mostGoroutines {
			return fmt.Errorf("I7: %s has used %d MiB, %d files, %d goroutines", m.name, m.memory>>20, m.files, m.goroutines)
		}
	}
	return growth(r.resource)
}

// growth finds a process that uses ever more. It compares the means of the thirds of the
// life of each process that has lived for long.
func growth(all []usage) error {
	const least = 12 // measurements
	lives := map[int][]usage{}
	for _, u := range all {
		lives[u.pid] = append(lives[u.pid], u)
	}
	for _, life := range lives {
		if len(life) < least {
			continue
		}
		n := len(life) / 3
		for _, of := range []struct {
			what  string
			slack float64
			get   func(usage) float64
		}{
			{"MiB of memory", 128, func(u usage) float64 { return float64(u.memory) / (1 << 20) }},
			{"open files", 100, func(u usage) float64 { return float64(u.files) }},
			{"goroutines", 100, func(u usage) float64 { return float64(u.goroutines) }},
		} {
			mean := func(part []usage) float64 {
				s := 0.0
				for _, u := range part {
					s += of.get(u)
				}
				return s / float64(len(part))
			}
			a, b, c := mean(life[:n]), mean(life[n:2*n]), mean(life[len(life)-n:])
			if b > a+of.slack && c > b+of.slack && c > 2*a {
				return fmt.Errorf("I7: the %s of %s grow: %.0f, %.0f, %.0f in the thirds of its life from %s to %s",
					of.what, life[0].name, a, b, c, life[0].at.Round(time.Second), life[len(life)-1].at.Round(time.Second))
			}
		}
	}
	return nil
}
