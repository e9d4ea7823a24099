package sizing

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// round are figures that can be computed in the head.
var round = Figures{
	ReceiveSeries: 1000, ReceiveFixed: 1e6, ReceiveCPU: 2, LogSample: 10,
	ChunkSample: 2, IndexSample: 0, IndexSeries: 0, Window5m: 10, Window1h: 12, HeaderSeries: 1,
	StoreBlock: 100, StoreFixed: 5, SidecarSeries: 300, SidecarFixed: 7, QueryFixed: 8, CompactFixed: 9,
	MergeCPU: 0.01, ReplicaCPU: 0.03, DownsampleCPU: 0.04,
}

func amounts(l Load, f Figures) map[string]float64 {
	out := map[string]float64{}
	for _, n := range Compute(l, f) {
		out[n.Part+" "+n.Resource] = n.Amount
	}
	return out
}

// base has 1,000 samples a second.
func base() Load {
	return Load{
		Series: 10_000, Interval: 10 * time.Second, Churn: 1, Sources: 1, Replicas: 1, ReplicationFactor: 3,
		Local: 10 * day, Raw: 28 * day, FiveMinutes: 28 * day, OneHour: 280 * day,
	}
}

func TestCompute_Amounts(t *testing.T) {
	ring := func(l *Load) { l.ReceiveNodes = 6 }
	for _, c := range []struct {
		name   string
		change func(l *Load)
		need   string
		want   float64
	}{
		{"a sample has two bytes", func(*Load) {}, "bucket raw", 1000 * 28 * 86400 * 2},
		{"a window of 5m has ten", func(*Load) {}, "bucket 5m", 10_000 * 28 * 288 * 10},
		{"a window of 1h has twelve", func(*Load) {}, "bucket 1h", 10_000 * 280 * 24 * 12},
		{"replicas are stored twice", func(l *Load) { l.Replicas = 2 }, "bucket raw", 2 * 1000 * 28 * 86400 * 2},
		{"unless they are merged", func(l *Load) { l.Replicas, l.Merged = 2, true }, "bucket raw", 1000 * 28 * 86400 * 2},
		{"they arrive twice", func(l *Load) { l.Replicas, l.Merged = 2, true }, "bucket upload a day", 2 * 1000 * 86400 * 2},
		{"own bytes of a sample", func(l *Load) { l.BytesPerSample = 4 }, "bucket raw", 1000 * 28 * 86400 * 4},
		{"sources wait for their deletion", func(*Load) {}, "bucket replaced", 1000 * 18 * 86400 * 2},
		{"no longer than raw data is kept", func(l *Load) { l.Raw = 5 * day }, "bucket replaced", 1000 * 5 * 86400 * 2},
		{"a sidecar has one server", func(l *Load) { l.Sources, l.Replicas = 4, 2 }, "sidecar memory", 7 + 2500*300},
		{"a head has an eighth of the churn", func(l *Load) { l.Churn = 3 }, "sidecar memory", 7 + 12_500*300},
		{"a ring divides three copies", ring, "receive memory", 1e6 + 5000*1000},
		{"cpu of a node", ring, "receive cpu", 500 * 2 / 1e6},
		{"log of a node", ring, "receive disk, log", 500 * 3 * 3600 * 10},
		{"blocks of a node", ring, "receive disk, blocks", 500 * 10 * 86400 * 2},
		{"copies of a ring are stored three times", ring, "bucket raw", 3 * 1000 * 28 * 86400 * 2},
		{"three levels of merging", func(*Load) {}, "compact cpu", 1000 * (3*0.01 + 0.04) / 1e6},
		{"and of replicas", func(l *Load) { l.Replicas, l.Merged = 2, true }, "compact cpu", 1000 * (2*0.03 + 2*0.01 + 0.04) / 1e6},
		// 2 blocks of 14 d of raw and of 5m data, 20 of 1h data, and 31 younger ones.
		{"blocks", func(l *Load) { l.Sources = 2 }, "store blocks", 2 * (2 + 2 + 20 + 31)},
		{"memory of a gateway", func(*Load) {}, "store memory", 5 + 55*100},
		{"headers of a gateway", func(*Load) {}, "store disk", 10_000 * (2 + 2 + 20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := base()
			c.change(&l)
			require.NoError(t, l.Check())
			got, ok := amounts(l, round)[c.need]
			require.True(t, ok, "no %s", c.need)
			require.InEpsilon(t, c.want, got, 1e-9)
		})
	}
}

// The index of a block has an entry for each series of its time, those that have ended
// included, and bytes for each chunk.
func TestCompute_IndexGrowsWithChurn(t *testing.T) {
	l, f := base(), round
	f.IndexSeries, f.IndexSample = 100, 0.5
	raw := 1000 * 28 * 86400 * 2.5
	require.InEpsilon(t, raw+2*10_000*100, amounts(l, f)["bucket raw"], 1e-9)
	l.Churn = 2 // as many new series each day as are active
	require.InEpsilon(t, raw+2*(10_000+14*10_000)*100, amounts(l, f)["bucket raw"], 1e-9)
	require.InEpsilon(t, 150_000*100+1000*14*86400*0.5+2*(512<<20), amounts(l, f)["compact disk"], 1e-9)
}

// More of anything never needs less, and no amount is negative or not a number.
func TestCompute_GrowsWithLoad(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		l := Load{
			Series: 1 + rng.Float64()*1e7, Interval: time.Duration(1+rng.IntN(60)) * time.Second, Churn: 1 + 3*rng.Float64(),
			Sources: 1 + rng.IntN(50), Replicas: 1 + rng.IntN(3), ReceiveNodes: rng.IntN(2) * (3 + rng.IntN(9)), ReplicationFactor: 3,
			Local: time.Duration(rng.IntN(30)) * day, Merged: rng.IntN(2) == 0,
			Raw: time.Duration(1+rng.IntN(90)) * day, FiveMinutes: time.Duration(rng.IntN(400)) * day, OneHour: time.Duration(rng.IntN(2000)) * day,
		}
		require.NoError(t, l.Check())
		before := amounts(l, Measured())
		for name, more := range map[string]func(l *Load){
			"series": func(l *Load) { l.Series *= 1.5 }, "churn": func(l *Load) { l.Churn *= 1.5 },
			"replicas": func(l *Load) { l.Replicas++ }, "raw": func(l *Load) { l.Raw += 7 * day }, "5m": func(l *Load) { l.FiveMinutes += 7 * day },
			"1h": func(l *Load) { l.OneHour += 7 * day }, "local": func(l *Load) { l.Local += day },
			"faster": func(l *Load) { l.Interval /= 2 },
		} {
			bigger := l
			more(&bigger)
			for need, amount := range amounts(bigger, Measured()) {
				require.GreaterOrEqual(t, amount, before[need], "%s with more %s: %+v", need, name, l)
				require.Positive(t, amount+1)
			}
		}
	}
}

func TestCheck_RefusesLoadsWithoutSize(t *testing.T) {
	for want, change := range map[string]func(l *Load){
		"series":             func(l *Load) { l.Series = 0 },
		"interval":           func(l *Load) { l.Interval = 0 },
		"churn":              func(l *Load) { l.Churn = 0.5 },
		"at least 1":         func(l *Load) { l.Sources = 0 },
		"needs at least":     func(l *Load) { l.ReceiveNodes = 2 },
		"for ever":           func(l *Load) { l.Raw = 0 },
		"bytes for a sample": func(l *Load) { l.BytesPerSample = -1 },
	} {
		l := base()
		change(&l)
		require.ErrorContains(t, l.Check(), want)
	}
}

func TestNeed_Text(t *testing.T) {
	for want, n := range map[string]Need{
		"999 B":       {Amount: 999, Unit: unitBytes},
		"0.977 KiB":   {Amount: 1000, Unit: unitBytes},
		"1.5 GiB":     {Amount: 1.5 * (1 << 30), Unit: unitBytes},
		"2 TiB":       {Amount: 2 << 40, Unit: unitBytes},
		"0.05 cores":  {Amount: 0.05, Unit: unitCores},
		"1024 blocks": {Amount: 1024, Unit: unitBlocks},
		"3 PiB":       {Amount: 3 << 50, Unit: unitBytes},
	} {
		require.Equal(t, want, n.Text())
	}
}
