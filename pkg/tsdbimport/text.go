package tsdbimport

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/fileutil"
)

// checkEvery is the number of samples between two looks at the context.
const checkEvery = 4096

// OpenMetrics is a file in the text format of OpenMetrics. Each sample needs a timestamp.
type OpenMetrics struct{ Path string }

// Each implements Input. The file is mapped into memory.
func (in OpenMetrics) Each(ctx context.Context, f func(labels.Labels, Sample) error) (err error) {
	m, err := fileutil.OpenMmapFile(in.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	p := textparse.NewOpenMetricsParser(m.Bytes(), labels.NewSymbolTable())
	for n := 1; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("entry %d of %s: %w", n, in.Path, err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, ts, v := p.Series()
		var lset labels.Labels
		p.Labels(&lset)
		lset = lset.WithoutEmpty()
		if ts == nil {
			return fmt.Errorf("entry %d of %s: series %s has a sample without a timestamp", n, in.Path, lset)
		}
		if err := f(lset, Sample{T: *ts, V: v}); err != nil {
			return err
		}
	}
}

// Victoria is a file of the export of VictoriaMetrics in JSON lines (/api/v1/export).
type Victoria struct{ Path string }

// maxLine bounds one line: one series, or a part of it.
const maxLine = 64 << 20

// victoriaLine is one line of the export.
type victoriaLine struct {
	Metric     map[string]string `json:"metric"`
	Values     []victoriaValue   `json:"values"`
	Timestamps []int64           `json:"timestamps"`
}

// victoriaValue is a number, the text of a number that JSON has not, or null, which is how
// VictoriaMetrics writes a stale marker.
type victoriaValue float64

// UnmarshalJSON reads each of the forms.
func (v *victoriaValue) UnmarshalJSON(b []byte) error {
	text := string(b)
	if text == "null" {
		*v = victoriaValue(math.Float64frombits(value.StaleNaN))
		return nil
	}
	if len(b) > 1 && b[0] == '"' {
		text = text[1 : len(text)-1]
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("%.40q is not a number", text)
	}
	*v = victoriaValue(f)
	return nil
}

// Each implements Input.
func (in Victoria) Each(ctx context.Context, f func(labels.Labels, Sample) error) (err error) {
	file, err := os.Open(in.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, 1<<20), maxLine)
	for n := 1; lines.Scan(); n++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if len(lines.Bytes()) == 0 {
			continue
		}
		var l victoriaLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("line %d of %s: %w", n, in.Path, err)
		}
		if len(l.Values) != len(l.Timestamps) {
			return fmt.Errorf("line %d of %s: it has %d values and %d timestamps", n, in.Path, len(l.Values), len(l.Timestamps))
		}
		lset := labels.FromMap(l.Metric).WithoutEmpty()
		for i, t := range l.Timestamps {
			if err := f(lset, Sample{T: t, V: float64(l.Values[i])}); err != nil {
				return fmt.Errorf("line %d of %s: %w", n, in.Path, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s (a line may have %d bytes): %w", in.Path, maxLine, err)
	}
	return nil
}
