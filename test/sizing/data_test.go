package sizing

import (
	"fmt"
	"math/rand/v2"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

const (
	interval = 15_000 // ms
	perChunk = 120
)

// kinds are the values of series, by their share of ten: the chunk bytes of a sample
// depend on them more than on anything else.
func kinds() [10]string {
	return [10]string{"counter", "counter", "counter", "counter", "idle", "idle", "gauge", "gauge", "float", "constant"}
}

// generator is the state of one series.
type generator struct {
	kind string
	rng  *rand.Rand
	v    float64
}

func newGenerator(i int, kind string) *generator {
	rng := rand.New(rand.NewPCG(uint64(i), 1))
	return &generator{kind: kind, rng: rng, v: float64(rng.IntN(1_000_000))}
}

// next returns the next value.
func (g *generator) next() float64 {
	switch g.kind {
	case "counter": // grows by a random integer at each scrape
		g.v += float64(g.rng.IntN(20))
	case "idle": // a counter that grows seldom
		if g.rng.IntN(50) == 0 {
			g.v++
		}
	case "gauge": // an integer that changes at each third scrape
		if g.rng.IntN(3) == 0 {
			g.v = float64(g.rng.IntN(1000))
		}
	case "float": // noise in all bits
		g.v = g.rng.Float64()
	}
	return g.v
}

// labelSet has eight labels of usual length.
func labelSet(i int) labels.Labels {
	return labels.FromStrings("__name__", fmt.Sprintf("application_metric_%03d_total", i%300), "job", "application",
		"instance", fmt.Sprintf("10.0.%d.%d:8080", i/300/250, i/300%250), "namespace", fmt.Sprintf("team-%02d", i/300%20),
		"pod", fmt.Sprintf("application-6c5f8d9b7-%05d", i/300), "container", "application",
		"code", []string{"200", "404", "500"}[i%3], "handler", fmt.Sprintf("/api/v1/resource-%02d", i%50))
}

// jitter is the distance of a scrape from its time: one of ten is a millisecond late.
func (g *generator) jitter() int64 {
	if g.rng.IntN(10) == 0 {
		return 1
	}
	return 0
}

// encoded returns a series from mint to maxt, with the encoder of Prometheus.
func encoded(i int, kind string, mint, maxt int64) (s blocktest.Series, bytes int) {
	s.Labels = labelSet(i)
	g := newGenerator(i, kind)
	for t := mint; t < maxt; {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		if err != nil {
			panic(err)
		}
		meta := chunks.Meta{MinTime: t, Chunk: c}
		for ; t < maxt && c.NumSamples() < perChunk; t += interval {
			meta.MaxTime = t + g.jitter()
			if c.NumSamples() == 0 {
				meta.MinTime = meta.MaxTime
			}
			app.Append(0, meta.MaxTime, g.next())
		}
		c.Compact()
		bytes += len(c.Bytes())
		s.Chunks = append(s.Chunks, meta)
	}
	return s, bytes
}
