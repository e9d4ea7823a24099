package blockmerge

import (
	"context"
	"fmt"
	"math/bits"
)

const (
	// maxShards bounds the number of outputs.
	maxShards = 1 << 10
	// limitShare is the share of a limit that an estimate may reach.
	limitShare = 0.95
)

// shard is a part of the series of a merge.
type shard struct {
	symbols symbolSet
	// Estimates in bytes: of the series with their postings, of the symbols, and of the
	// table of postings.
	seriesBytes, symbolBytes, tableBytes int64
	used                                 bool
}

// split decides into how many shards the result is divided. Most merges are much
// smaller than the limits, which the sizes of the sources show. For the others it reads
// the labels of all series first.
func (m *merge) split(ctx context.Context) error {
	var sum, symbols, table int64
	for _, s := range m.sources {
		sum += s.size
		symbols += int64(s.toc.Series - s.toc.Symbols)
		table += s.size - int64(s.toc.PostingsTable)
	}
	l := m.cfg.Limits
	if fits(sum, l.Index) && fits(symbols, l.Section) && fits(table, l.Section) {
		return nil
	}
	for n := 1; n <= maxShards; n *= 2 {
		if err := m.survey(ctx, n); err != nil {
			return err
		}
		enough := true
		for _, s := range m.shards {
			enough = enough && fits(s.symbolBytes+s.seriesBytes+s.tableBytes, l.Index) && fits(s.symbolBytes, l.Section) && fits(s.tableBytes, l.Section)
		}
		if !enough {
			continue
		}
		if n == 1 {
			m.shards = nil
		}
		m.dropUnused()
		return nil
	}
	return fmt.Errorf("divide %d blocks by their series: %w: also with %d blocks", len(m.sources), errTooLarge, maxShards)
}

// dropUnused removes shards without series, of which a merge of few series may have some.
func (m *merge) dropUnused() {
	used := m.shards[:0]
	for i, s := range m.shards {
		m.place[i] = len(used)
		if s.used {
			used = append(used, s)
		}
	}
	m.shards = used
}

func fits(n, limit int64) bool { return float64(n) <= limitShare*float64(limit) }

// survey reads the labels of all series and measures n shards of them.
func (m *merge) survey(ctx context.Context, n int) error {
	total := 0
	if err := mergeSymbols(ctx, m.sources, func([]byte) error { total++; return nil }); err != nil {
		return err
	}
	m.shards, m.place = make([]*shard, n), make([]int, n)
	for i := range m.shards {
		m.shards[i], m.place[i] = &shard{symbols: newSymbolSet(total)}, i
	}
	for _, s := range m.sources {
		s.describe, s.labelsOnly = m.describer(), true
	}
	err := m.run(ctx, func(u *unit) error {
		for i := range u.series {
			s := &u.series[i]
			m.shards[m.shardOf(s.labels)].add(s)
		}
		return nil
	})
	for _, s := range m.sources {
		s.labelsOnly = false
	}
	if err != nil {
		return err
	}
	number := uint32(0)
	err = mergeSymbols(ctx, m.sources, func(symbol []byte) error {
		for _, s := range m.shards {
			if s.symbols.has(number) {
				s.symbolBytes += int64(len(symbol)) + 5
			}
		}
		number++
		return nil
	})
	for _, s := range m.shards {
		s.symbols.index()
	}
	m.estimateTables()
	return err
}

// estimateTables estimates the tables of postings from the largest one of a source, by
// the part that a shard has of the symbols. The writer checks the limit.
func (m *merge) estimateTables() {
	var perSymbol float64
	for _, s := range m.sources {
		table, symbols := s.size-int64(s.toc.PostingsTable), max(int64(s.toc.Series-s.toc.Symbols), 1)
		perSymbol = max(perSymbol, float64(table)/float64(symbols))
	}
	for _, s := range m.shards {
		s.tableBytes = int64(1.2 * perSymbol * float64(s.symbolBytes))
	}
}

// add adds a series to the estimate.
func (s *shard) add(u *unitSeries) {
	s.used = true
	size := 2*seriesAlign + 5*len(u.labels)
	for _, p := range u.parts {
		size += p.size + p.size/4 // references of chunks may become longer
	}
	s.seriesBytes += int64(size) + 4*int64(len(u.labels)/2+1)
	for _, l := range u.labels {
		s.symbols.add(l)
	}
}

// shardOf gives the shard of a series by a hash of its labels, FNV-1a over the numbers
// of their symbols: it differs from one merge to the next, which merges all shards.
func (m *merge) shardOf(labels []uint32) int {
	h := uint64(14695981039346656037)
	for _, l := range labels {
		h = (h ^ uint64(l)) * 1099511628211
	}
	hi, _ := bits.Mul64(h*0x9e3779b97f4a7c15, uint64(len(m.place)))
	return m.place[hi]
}

// symbolSet is a set of symbols, which it numbers from 0.
type symbolSet struct {
	words []uint64
	below []uint32 // the number of symbols before each word
}

func newSymbolSet(symbols int) symbolSet { return symbolSet{words: make([]uint64, symbols/64+1)} }

func (s *symbolSet) add(n uint32)      { s.words[n/64] |= 1 << (n % 64) }
func (s *symbolSet) has(n uint32) bool { return s.words[n/64]&(1<<(n%64)) != 0 }

// index prepares rank.
func (s *symbolSet) index() {
	s.below = make([]uint32, len(s.words))
	n := uint32(0)
	for i, w := range s.words {
		s.below[i] = n
		n += uint32(bits.OnesCount64(w))
	}
}

// rank is the number of a symbol of the set.
func (s *symbolSet) rank(n uint32) uint32 {
	return s.below[n/64] + uint32(bits.OnesCount64(s.words[n/64]&(1<<(n%64)-1)))
}
