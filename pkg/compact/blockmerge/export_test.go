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
			for _, c := range s.chunks {
				u.out = u.out[:len(u.out)-c.size]
			}
			return len(s.chunks) > 0
		},
		"forget the last chunk": func(u *unit) bool {
			s := &u.series[len(u.series)-1]
			if len(s.chunks) < 2 {
				return false
			}
			u.out = u.out[:len(u.out)-s.chunks[len(s.chunks)-1].size]
			s.chunks = s.chunks[:len(s.chunks)-1]
			return true
		},
		"invent a series": func(u *unit) bool {
			s := u.series[len(u.series)-1]
			if len(s.chunks) == 0 || len(s.labels) < 4 {
				return false
			}
			size := 0
			for _, c := range s.chunks {
				size += c.size
			}
			u.out = append(u.out, u.out[len(u.out)-size:]...)
			s.chunks = slices.Clone(s.chunks)
			s.labels = append(slices.Clone(s.labels), s.labels[len(s.labels)-2]+1, 0)
			u.series = append(u.series, s)
			return true
		},
		"exchange the chunks of two series": func(u *unit) bool {
			for i := 1; i < len(u.series); i++ {
				a, b := &u.series[i-1], &u.series[i]
				if len(a.chunks) > 0 && len(b.chunks) > 0 {
					exchange(u, i)
					return true
				}
			}
			return false
		},
	}
}

// exchange gives series i of a unit the chunks of the one before it, and the other way round.
func exchange(u *unit, i int) {
	at, sizes := 0, [2]int{}
	for k, s := range u.series[:i+1] {
		for _, c := range s.chunks {
			if k < i-1 {
				at += c.size
			} else {
				sizes[k-i+1] += c.size
			}
		}
	}
	both := slices.Clone(u.out[at : at+sizes[0]+sizes[1]])
	copy(u.out[at:], both[sizes[0]:])
	copy(u.out[at+sizes[1]:], both[:sizes[0]])
	a, b := &u.series[i-1], &u.series[i]
	a.chunks, b.chunks = b.chunks, a.chunks
}

// BreakWritten lets the writer make a fault once.
func (c *Config) BreakWritten(name string) (made *bool) {
	f, made := writerFaults()[name], new(bool)
	c.faults.written = func(u *unit) { *made = *made || f(u) }
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
