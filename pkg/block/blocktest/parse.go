package blocktest

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Spec is a parsed text.
type Spec struct {
	Blocks []*Block
	Marks  []Mark
}

// Block is one block of a text.
type Block struct {
	Name     string
	Meta     block.Meta
	Series   []Series
	MetaOnly bool
}

// Mark is one mark of a text. Kind is "deletion", "no-compact" or
// "no-downsample".
type Mark struct {
	Block, Kind, Reason, Details string
	At                           time.Time
}

// Parse reads a text that describes blocks. Empty lines and those that begin
// with # are ignored. Times are durations since 1970, for example 1h30m.
//
//	block a range=0s..2h labels={cluster="eu"} level=1 source=sidecar
//	  up{job="x"}    0s..2h/15s:1+0.5      samples every 15s: 1, 1.5, 2, …
//	  up{job="y"}    0s:1 15s:2 | 30s:3    single samples; | begins a new chunk
//	  lat{job="x"}   0s..2h/1m:h1+1        native histograms; fh for float ones
//	  up{job="z"}    0s:1 15s:stale 30s:NaN
//	meta b range=2h..4h labels={cluster="eu"} sources=a,b resolution=5m
//	mark a deletion at=3h details=why
//
// A line "meta" instead of "block" describes a block of which only meta.json
// matters. Chunks end after 120 samples as in Prometheus. Without a range, the
// range is that of the samples, extended to multiples of two hours.
func Parse(text string) (*Spec, error) {
	s := &Spec{}
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		var err error
		switch word, rest, _ := strings.Cut(trimmed, " "); {
		case line[0] != ' ' && line[0] != '\t' && (word == "block" || word == "meta"):
			err = s.addBlock(rest, word == "meta")
		case word == "mark":
			err = s.addMark(rest)
		case len(s.Blocks) == 0:
			err = fmt.Errorf("a series before the first block")
		default:
			err = s.Blocks[len(s.Blocks)-1].addSeries(trimmed)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d, %q: %w", i+1, trimmed, err)
		}
	}
	for _, b := range s.Blocks {
		b.setRange()
	}
	return s, nil
}

// fields splits at spaces outside braces.
func fields(s string) []string {
	depth := 0
	return strings.FieldsFunc(s, func(r rune) bool {
		switch r {
		case '{':
			depth++
		case '}':
			depth--
		}
		return depth == 0 && (r == ' ' || r == '\t')
	})
}

func millis(s string) (int64, error) {
	neg := strings.HasPrefix(s, "-")
	d, err := model.ParseDuration(strings.TrimPrefix(s, "-"))
	if neg {
		d = -d
	}
	return time.Duration(d).Milliseconds(), err
}

func (s *Spec) addBlock(rest string, metaOnly bool) error {
	words := fields(rest)
	if len(words) == 0 {
		return fmt.Errorf("a block needs a name")
	}
	b := &Block{Name: words[0], MetaOnly: metaOnly}
	b.Meta.ULID = ID(b.Name)
	b.Meta.MinTime, b.Meta.MaxTime = math.MaxInt64, math.MinInt64
	b.Meta.Thanos.Source = block.SourceSidecar
	for _, w := range words[1:] {
		key, val, _ := strings.Cut(w, "=")
		if err := b.set(key, val); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	s.Blocks = append(s.Blocks, b)
	return nil
}

// set applies one key=value word of a block line.
func (b *Block) set(key, val string) (err error) {
	m := &b.Meta
	switch key {
	case "range":
		m.MinTime, m.MaxTime, err = parseRange(val)
	case "labels":
		var lset labels.Labels
		lset, err = parser.NewParser(parser.Options{}).ParseMetric(val)
		m.Thanos.Labels = lset.Map()
	case "level":
		m.Compaction.Level, err = strconv.Atoi(val)
	case "source":
		m.Thanos.Source = block.Source(val)
	case "resolution":
		m.Thanos.Downsample.Resolution, err = millis(val)
	case "sources":
		for _, name := range strings.Split(val, ",") {
			m.Compaction.Sources = append(m.Compaction.Sources, ID(name))
		}
	case "hints":
		m.Compaction.Hints = strings.Split(val, ",")
	case "uploaded":
		var t int64
		t, err = millis(val)
		m.Thanos.UploadTime = time.UnixMilli(t).UTC()
	case "tombstones":
		m.Stats.NumTombstones, err = strconv.ParseUint(val, 10, 64)
	case "series":
		m.Stats.NumSeries, err = strconv.ParseUint(val, 10, 64)
	case "samples":
		m.Stats.NumSamples, err = strconv.ParseUint(val, 10, 64)
	case "failed":
		m.Compaction.Failed, err = strconv.ParseBool(val)
	case "index-size":
		var n int64
		n, err = strconv.ParseInt(val, 10, 64)
		m.Thanos.Files = append(m.Thanos.Files, block.File{RelPath: block.IndexFile, SizeBytes: n})
	case "extensions":
		m.Thanos.Extensions = json.RawMessage(val)
	default:
		return fmt.Errorf("unknown key")
	}
	return err
}

func parseRange(s string) (from, to int64, err error) {
	a, z, ok := strings.Cut(s, "..")
	if !ok {
		return 0, 0, fmt.Errorf("want from..to")
	}
	if from, err = millis(a); err == nil {
		to, err = millis(z)
	}
	return from, to, err
}

func (s *Spec) addMark(rest string) error {
	words := fields(rest)
	if len(words) < 2 {
		return fmt.Errorf("want: mark <block> <kind>")
	}
	m := Mark{Block: words[0], Kind: words[1], Reason: block.MarkManual, At: time.Unix(0, 0)}
	for _, w := range words[2:] {
		switch key, val, _ := strings.Cut(w, "="); key {
		case "at":
			t, err := millis(val)
			if err != nil {
				return err
			}
			m.At = time.UnixMilli(t)
		case "reason":
			m.Reason = val
		case "details":
			m.Details = val
		default:
			return fmt.Errorf("%s: unknown key", w)
		}
	}
	s.Marks = append(s.Marks, m)
	return nil
}

// addSeries parses a line with the labels and samples of a series.
func (b *Block) addSeries(line string) error {
	words := fields(line)
	lset, err := parser.NewParser(parser.Options{}).ParseMetric(words[0])
	if err != nil {
		return err
	}
	var all [][]sample
	cur := []sample{}
	for _, w := range words[1:] {
		if w == "|" {
			all, cur = append(all, cur), []sample{}
			continue
		}
		more, err := parseSamples(w)
		if err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
		cur = append(cur, more...)
	}
	s := Series{Labels: lset}
	for _, group := range append(all, cur) {
		if s.Chunks, err = appendChunks(s.Chunks, group); err != nil {
			return err
		}
	}
	b.Series = append(b.Series, s)
	return nil
}

// sample is one sample of kind "", "h" or "fh".
type sample struct {
	t    int64
	kind string
	v    float64
}

// parseSamples parses one word: time:value, or from..to/step:start+increment.
func parseSamples(w string) ([]sample, error) {
	when, what, ok := strings.Cut(w, ":")
	if !ok {
		return nil, fmt.Errorf("want time:value")
	}
	kind := ""
	for _, k := range []string{"fh", "h"} {
		if rest, ok := strings.CutPrefix(what, k); ok {
			kind, what = k, rest
			break
		}
	}
	times, step, isRange := strings.Cut(when, "/")
	if !isRange {
		t, err := millis(when)
		if err != nil {
			return nil, err
		}
		v, err := parseValue(what)
		return []sample{{t, kind, v}}, err
	}
	from, to, err := parseRange(times)
	if err != nil {
		return nil, err
	}
	every, err := millis(step)
	if err != nil || every <= 0 {
		return nil, fmt.Errorf("bad step %q", step)
	}
	start, inc, _ := strings.Cut(what, "+")
	v, err := parseValue(start)
	if err != nil {
		return nil, err
	}
	add := 0.0
	if inc != "" {
		if add, err = strconv.ParseFloat(inc, 64); err != nil {
			return nil, err
		}
	}
	var out []sample
	for t := from; t < to; t += every {
		out = append(out, sample{t, kind, v})
		v += add
	}
	return out, nil
}

func parseValue(s string) (float64, error) {
	if s == "stale" {
		return math.Float64frombits(value.StaleNaN), nil
	}
	return strconv.ParseFloat(s, 64)
}

const samplesPerChunk = 120

// appendChunks encodes samples, with a new chunk at a change of kind.
func appendChunks(to []chunks.Meta, samples []sample) ([]chunks.Meta, error) {
	for len(samples) > 0 {
		n := 1
		for n < len(samples) && n < samplesPerChunk && samples[n].kind == samples[0].kind {
			n++
		}
		c, err := encode(samples[:n])
		if err != nil {
			return nil, err
		}
		to = append(to, chunks.Meta{Chunk: c, MinTime: samples[0].t, MaxTime: samples[n-1].t})
		samples = samples[n:]
	}
	return to, nil
}

// encode makes a chunk of samples of one kind.
func encode(samples []sample) (chunkenc.Chunk, error) {
	var c chunkenc.Chunk = chunkenc.NewXORChunk()
	switch samples[0].kind {
	case "h":
		c = chunkenc.NewHistogramChunk()
	case "fh":
		c = chunkenc.NewFloatHistogramChunk()
	}
	app, err := c.Appender()
	if err != nil {
		return nil, err
	}
	for _, s := range samples {
		switch s.kind {
		case "":
			app.Append(0, s.t, s.v)
		case "h":
			_, _, app, err = app.AppendHistogram(nil, 0, s.t, tsdbutil.GenerateTestHistogram(int64(s.v)), true)
		case "fh":
			_, _, app, err = app.AppendFloatHistogram(nil, 0, s.t, tsdbutil.GenerateTestFloatHistogram(int64(s.v)), true)
		}
		if err != nil {
			return nil, fmt.Errorf("append at %d: %w", s.t, err)
		}
	}
	return c, nil
}

func (b *Block) setRange() {
	if b.Meta.MinTime <= b.Meta.MaxTime {
		return
	}
	const align = 2 * 60 * 60 * 1000
	for _, s := range b.Series {
		for _, c := range s.Chunks {
			b.Meta.MinTime = min(b.Meta.MinTime, c.MinTime)
			b.Meta.MaxTime = max(b.Meta.MaxTime, c.MaxTime)
		}
	}
	if b.Meta.MinTime > b.Meta.MaxTime {
		b.Meta.MinTime, b.Meta.MaxTime = 0, align
		return
	}
	floor := func(t int64) int64 { return t - ((t%align)+align)%align }
	b.Meta.MinTime = floor(b.Meta.MinTime)
	b.Meta.MaxTime = floor(b.Meta.MaxTime) + align
}
