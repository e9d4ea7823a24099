package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/headblock"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
)

// recoverRow is one head in the output of tools recover.
type recoverRow struct {
	Source     string            `json:"source" yaml:"source"`
	Generation string            `json:"generation,omitempty" yaml:"generation,omitempty"`
	Labels     map[string]string `json:"labels" yaml:"labels"`
	// From and To are the times of the samples, in RFC 3339; empty without samples.
	From string `json:"from,omitempty" yaml:"from,omitempty"`
	To   string `json:"to,omitempty" yaml:"to,omitempty"`
	// LogBytes are the bytes of the log that the head covers, AgeSeconds the time since
	// it grew.
	LogBytes   int64  `json:"log_bytes" yaml:"log_bytes"`
	AgeSeconds int64  `json:"age_seconds" yaml:"age_seconds"`
	State      string `json:"state" yaml:"state"`

	// The result of the command, empty if it only listed the head.
	Result         string   `json:"result,omitempty" yaml:"result,omitempty"`
	Blocks         []string `json:"blocks,omitempty" yaml:"blocks,omitempty"`
	Samples        uint64   `json:"samples,omitempty" yaml:"samples,omitempty"`
	UnknownSamples int64    `json:"samples_without_series,omitempty" yaml:"samples_without_series,omitempty"`
	Damage         string   `json:"damage,omitempty" yaml:"damage,omitempty"`

	mint, maxt int64
}

// rowOf describes a head before its recovery.
func rowOf(h *headrecovery.Head, now time.Time) recoverRow {
	row := recoverRow{
		Source: h.Source, Generation: h.ID.String(), Labels: h.Labels.Map(), LogBytes: h.LogBytes,
		AgeSeconds: int64(h.Age(now).Seconds()), State: string(h.State),
	}
	if h.HasSamples {
		row.times(h.MinTime, h.MaxTime)
	}
	return row
}

// times widens the times of the samples.
func (r *recoverRow) times(mint, maxt int64) {
	if r.From == "" {
		r.mint, r.maxt = mint, maxt
	}
	r.mint, r.maxt = min(r.mint, mint), max(r.maxt, maxt)
	r.From = time.UnixMilli(r.mint).UTC().Format(time.RFC3339)
	r.To = time.UnixMilli(r.maxt).UTC().Format(time.RFC3339)
}

// took adds the result of a recovery.
func (r *recoverRow) took(res *headrecovery.Result) {
	for _, m := range res.Blocks {
		r.Blocks = append(r.Blocks, m.ULID.String())
		r.Samples += m.Stats.NumSamples
	}
	r.UnknownSamples = res.UnknownSamples
	r.Result = "recovered"
	switch {
	case res.Grown:
		r.Result = "kept, because it grew meanwhile"
	case res.Loss.Places > 0:
		r.Result = "recovered in part, and kept"
		r.Damage = fmt.Sprintf("%d places with %d bytes, the first: %s", res.Loss.Places, res.Loss.Bytes, res.Loss.First)
	case len(res.Blocks) == 0:
		r.Result = "removed"
	}
}

// print writes all rows in the form that --output names.
func (r *recoverRun) print() error {
	rows := r.rows
	if rows == nil {
		rows = []recoverRow{}
	}
	switch r.output {
	case "json":
		e := json.NewEncoder(r.s.out)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	case "yaml":
		return yaml.NewEncoder(r.s.out).Encode(rows)
	}
	w := tabwriter.NewWriter(r.s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "SOURCE\tGENERATION\tLABELS\tFROM\tTO\tLOG\tAGE\tSTATE\tRESULT\tBLOCKS\tSAMPLES")
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join([]string{
			row.Source, orDash(row.Generation), orDash(strings.Trim(labels.FromMap(row.Labels).String(), "{}")), orDash(row.From), orDash(row.To),
			units.Base2Bytes(row.LogBytes).Round(1).String(), (time.Duration(row.AgeSeconds) * time.Second).String(), row.State,
			orDash(row.Result), orDash(strings.Join(row.Blocks, " ")), fmt.Sprint(row.Samples),
		}, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, row := range rows {
		if row.Damage != "" {
			fmt.Fprintf(r.s.err, "head %s of source %s is damaged: %s\n", row.Generation, row.Source, row.Damage)
		}
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// progress shows on a terminal how far the blocks of a head are.
func (r *recoverRun) progress(p headblock.Progress) {
	f, ok := r.s.err.(*os.File)
	if !ok {
		return
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return
	}
	r.shown = true
	share := 100.0
	if p.Total > 0 {
		share = 100 * float64(p.Done) / float64(p.Total)
	}
	fmt.Fprintf(f, "\r%d passes over %d MiB, %.0f %% of the series written ", p.Passes, p.PassBytes>>20, share)
}

// endProgress ends the line of the progress.
func (r *recoverRun) endProgress() {
	if r.shown {
		fmt.Fprintln(r.s.err)
		r.shown = false
	}
}
