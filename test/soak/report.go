package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func (r *run) count(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what] += n
}

// note adds to the time line.
func (r *run) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timeline = append(r.timeline, fmt.Sprintf("%s %8.1fs  %s", time.Now().UTC().Format(timeOfDay), time.Since(r.began).Seconds(), fmt.Sprintf(format, args...)))
}

func (r *run) lastRead(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now().UTC().Format(timeOfDay) + " " + what
}

func (r *run) lastIncomplete() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// ackedSamples is the sum over all streams.
func (r *run) ackedSamples() int {
	n := 0
	for _, l := range r.ledgers {
		n += l.count()
	}
	return n
}

// progress prints the line of a round.
func (r *run) progress(n int, faults []fault, took time.Duration) {
	var what []string
	for _, f := range faults {
		what = append(what, f.String())
	}
	live, all := r.guard.visible()
	waiting, _ := r.blocks.violation()
	acked := r.ackedSamples()
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, "%4d %6.0fs %5.1fs  %-60s acked %d, compared %d, reads %d/%d/%d, blocks %d/%d (%d unchecked)\n",
		n, time.Since(r.began).Seconds(), took.Seconds(), strings.Join(what, " | "), acked, r.counts["samples compared"],
		r.counts["read complete"], r.counts["read partial"], r.counts["read failed"], len(live), len(all), waiting)
}

// summary prints the table at the end.
func (r *run) summary() {
	w := tabwriter.NewWriter(r.out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "\nseed\t%d\n", r.seed)
	fmt.Fprintf(w, "time\t%s\n", time.Since(r.began).Round(time.Second))
	fmt.Fprintf(w, "samples acknowledged\t%d\n", r.ackedSamples())
	r.blocks.mu.Lock()
	for _, k := range slices.Sorted(maps.Keys(r.blocks.checked)) {
		fmt.Fprintf(w, "blocks checked, %s\t%d\n", k, r.blocks.checked[k])
	}
	fmt.Fprintf(w, "samples in these\t%d\n", r.blocks.samples)
	r.blocks.mu.Unlock()
	r.guard.mu.Lock()
	fmt.Fprintf(w, "blocks deleted\t%d\n", r.guard.deleted)
	r.guard.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(r.counts)) {
		fmt.Fprintf(w, "%s\t%d\n", k, r.counts[k])
	}
	for _, k := range slices.Sorted(maps.Keys(r.faults)) {
		fmt.Fprintf(w, "fault %s\t%d\n", k, r.faults[k])
	}
	for _, u := range slices.SortedFunc(maps.Values(r.most()), func(a, b usage) int { return strings.Compare(a.name, b.name) }) {
		fmt.Fprintf(w, "most of %s\t%d MiB, %d files, %d goroutines\n", u.name, u.memory>>20, u.files, u.goroutines)
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(r.out, err)
	}
}

// explain prints what is needed to find the cause of a violation.
func (r *run) explain(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, "\nVIOLATION at %s, seed %d (the same seed gives the same faults): %v\n\ntime line of the faults:\n", time.Now().UTC().Format(timeOfDay), r.seed, err)
	for _, line := range r.timeline[max(0, len(r.timeline)-60):] {
		fmt.Fprintln(r.out, line)
	}
	fmt.Fprintf(r.out, "\nlogs and data are in %s\n", r.dir)
}
