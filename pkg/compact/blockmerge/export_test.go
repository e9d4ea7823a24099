package blockmerge

import (
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunks"
)

// BreakMerged lets f change the chunks of each series that was merged.
func (c *Config) BreakMerged(f func([]chunks.Meta) []chunks.Meta) { c.faults.merged = f }

// Faults of the writer, by name. Each says whether it found a place in the unit.
func writerFaults() map[string]func(*unit) bool {
	return map[string]func(*unit) bool{
		"forget a series": func(u *unit) bool {
			s := u.series[len(u.series)-1]
			u.series = u.series[:len(u.series)-1]
			return len(s.chunks) > 0
		},
		"forget the last chunk": func(u *unit) bool {
			s := &u.series[len(u.series)-1]
			if len(s.chunks) < 2 {
				return false
			}
			s.chunks = s.chunks[:len(s.chunks)-1]
			return true
		},
		"invent a series": func(u *unit) bool {
			s := u.series[len(u.series)-1]
			if len(s.chunks) == 0 || len(s.labels) < 4 {
				return false
			}
			s.chunks = slices.Clone(s.chunks)
			s.labels = append(slices.Clone(s.labels), s.labels[len(s.labels)-2]+1, 0)
			u.series = append(u.series, s)
			return true
		},
		"exchange the chunks of two series": func(u *unit) bool {
			for i := 1; i < len(u.series); i++ {
				a, b := &u.series[i-1], &u.series[i]
				if len(a.chunks) > 0 && len(b.chunks) > 0 {
					a.chunks, b.chunks = b.chunks, a.chunks
					return true
				}
			}
			return false
		},
	}
}

// ownRecords gives each chunk its record, so that chunks can be moved.
func ownRecords(u *unit) {
	records := u.out
	for i := range u.series {
		for k := range u.series[i].chunks {
			c := &u.series[i].chunks[k]
			c.record, records = c.recordOf(records)
		}
	}
}

// BreakWritten lets the writer make a fault once.
func (c *Config) BreakWritten(name string) (made *bool) {
	f, made := writerFaults()[name], new(bool)
	c.faults.written = func(u *unit) {
		ownRecords(u)
		*made = *made || f(u)
	}
	return made
}

// WriterFaults are the names of the faults for BreakWritten.
func WriterFaults() (out []string) {
	for name := range writerFaults() {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
