package block_test

import (
	"testing"

	"github.com/hindsight-io/hindsight/pkg/block"
)

func BenchmarkParseMeta(b *testing.B) {
	m, err := block.ParseMeta([]byte(fullMeta))
	if err != nil {
		b.Fatal(err)
	}
	for range 12 {
		m.Compaction.Sources = append(m.Compaction.Sources, m.ULID)
	}
	data, err := m.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := block.ParseMeta(data); err != nil {
			b.Fatal(err)
		}
	}
}
