package sizing

import (
	"errors"
	"fmt"
	"math"
	"time"
)

const day = 24 * time.Hour

// The merges of the compactor: blocks of 2 h become blocks of 8 h, 2 d and 14 d.
const (
	levels   = 3
	longest  = 14 * day
	headSpan = 3 * time.Hour // the head becomes a block when it spans one and a half blocks of 2 h
	// replaced is the raw data that waits for its deletion at most, with a delay of 48 h: 2 d
	// of blocks of 2 h, 2 d of blocks of 8 h, and the blocks of 2 d that became one of 14 d.
	replaced = 18 * day
)

// maxSeries bounds the load, so that no result is beyond what a float64 counts exactly.
const maxSeries = 1e12

// Load describes an installation.
type Load struct {
	// Series are the active series, each series of an HA pair once. Interval is that of
	// the scrapes.
	Series   float64
	Interval time.Duration
	// Churn is how many series a day has for each series that is active at one time, at
	// least 1.
	Churn float64
	// Sources are the Prometheus servers or HA pairs, or the tenants: each has blocks of its
	// own. Replicas are the servers of an HA pair.
	Sources, Replicas int
	// ReceiveNodes is the size of the hashring; 0 means that sidecars ship the blocks.
	ReceiveNodes      int
	ReplicationFactor int
	// Local is how long a receiver keeps blocks.
	Local time.Duration
	// Merged says that the compactor merges replicas and the copies of a hashring.
	Merged bool
	// Raw, FiveMinutes and OneHour are how long the bucket keeps each resolution.
	Raw, FiveMinutes, OneHour time.Duration
	// BytesPerSample replaces Figures.ChunkSample unless it is 0.
	BytesPerSample float64
}

// Defaults are the values of a load where nothing is said, by the flag of `tools sizing` and
// the parameter of the page that sets them.
func Defaults() map[string]string {
	return map[string]string{
		"series": "1000000", "interval": "15s", "churn": "1.5", "sources": "1", "replicas": "1",
		"receive.nodes": "0", "receive.replication-factor": "3", "tsdb.retention": "15d", "deduplicated": "false",
		"retention.resolution-raw": "30d", "retention.resolution-5m": "180d", "retention.resolution-1h": "2y",
		"downsampling.disable": "false", "bytes-per-sample": "0",
	}
}

// The units of an amount.
const (
	unitBytes  = "bytes"
	unitCores  = "cores"
	unitBlocks = "blocks"
)

// Need is one amount that a part of the installation needs.
type Need struct {
	// Part is a role, or "bucket". Of a role, the amount is that of one process.
	Part, Resource string
	Amount         float64
	// Unit is "bytes", "cores" or "blocks".
	Unit string
	// From says how the amount is computed.
	From string
}

// Check refuses a load that has no size.
func (l *Load) Check() error {
	switch {
	case !(l.Series >= 1 && l.Series <= maxSeries):
		return fmt.Errorf("%v series: give a number from 1 to %v", l.Series, maxSeries)
	case l.Interval < time.Millisecond:
		return fmt.Errorf("interval %s: give at least 1ms", l.Interval)
	case !(l.Churn >= 1 && l.Churn <= 1e6):
		return fmt.Errorf("churn %v: give the series of a day for each active series, from 1 to 1000000", l.Churn)
	case l.Sources < 1 || l.Replicas < 1 || l.ReplicationFactor < 1:
		return errors.New("sources, replicas and replication factor: give at least 1")
	case l.ReceiveNodes < 0 || l.ReceiveNodes > 0 && l.ReplicationFactor > l.ReceiveNodes:
		return fmt.Errorf("%d receive nodes: a replication factor of %d needs at least as many", l.ReceiveNodes, l.ReplicationFactor)
	case l.Raw <= 0 || l.FiveMinutes < 0 || l.OneHour < 0:
		return errors.New("retention: data that is kept for ever has no size; give the time for which the size is wanted")
	case l.BytesPerSample < 0 || l.BytesPerSample > 1000:
		return fmt.Errorf("%v bytes for a sample: give at most 1000", l.BytesPerSample)
	}
	return nil
}

// Compute returns what the load needs, with the given figures. The load has passed Check.
func Compute(l Load, f Figures) []Need {
	if l.BytesPerSample > 0 {
		f.ChunkSample = l.BytesPerSample
	}
	c := computation{Load: l, f: f}
	c.perSecond = l.Series / l.Interval.Seconds()
	c.copies = float64(l.Replicas)
	if l.ReceiveNodes > 0 {
		c.copies *= float64(l.ReplicationFactor)
		c.receive()
	} else {
		c.sidecar()
	}
	c.bucket()
	c.store()
	c.query()
	c.compact()
	return c.needs
}

// computation collects the needs of one load.
type computation struct {
	Load
	f         Figures
	perSecond float64 // samples of one copy
	copies    float64 // of each sample, as it is written
	needs     []Need
}

func (c *computation) add(part, resource string, amount float64, unit, from string) {
	c.needs = append(c.needs, Need{Part: part, Resource: resource, Amount: amount, Unit: unit, From: from})
}

// receive adds what one node of the ring needs.
func (c *computation) receive() {
	nodes := float64(c.ReceiveNodes)
	series, samples := c.Series*c.copies/nodes, c.perSecond*c.copies/nodes
	head := c.headSeries(series)
	c.add("receive", "memory", c.f.ReceiveFixed+head*c.f.ReceiveSeries, unitBytes, fmt.Sprintf("%s + %.0f series x %.0f bytes", size(c.f.ReceiveFixed), head, c.f.ReceiveSeries))
	c.add("receive", "cpu", samples*c.f.ReceiveCPU/1e6, unitCores, fmt.Sprintf("%.0f samples a second x %.3g s a million", samples, c.f.ReceiveCPU))
	c.add("receive", "disk, log", samples*headSpan.Seconds()*c.f.LogSample, unitBytes, fmt.Sprintf("%s of samples x %.3g bytes", headSpan, c.f.LogSample))
	entry := c.f.ChunkSample + c.f.IndexSample
	blocks := samples*c.Local.Seconds()*entry + c.Local.Hours()/2*series*c.f.IndexSeries
	c.add("receive", "disk, blocks", blocks, unitBytes, fmt.Sprintf("%s of samples x %.3g bytes, and %.0f bytes of index for each series of a block of 2h", days(c.Local), entry, c.f.IndexSeries))
}

// headSeries are the series of a head, which has those of up to 3 h.
func (c *computation) headSeries(active float64) float64 {
	return active * (1 + (c.Churn-1)*headSpan.Hours()/24)
}

// sidecar adds what one sidecar needs, beside its Prometheus.
func (c *computation) sidecar() {
	head := c.headSeries(c.Series / float64(c.Sources))
	c.add("sidecar", "memory", c.f.SidecarFixed+head*c.f.SidecarSeries, unitBytes, fmt.Sprintf("%s + %.0f series x %.0f bytes", size(c.f.SidecarFixed), head, c.f.SidecarSeries))
}

// stored are the copies of each sample that the bucket keeps.
func (c *computation) stored() float64 {
	if c.Merged {
		return 1
	}
	return c.copies
}

// rawBytes is the size of raw data of a time in blocks of the longest range, one copy.
func (c *computation) rawBytes(d time.Duration) float64 {
	return c.perSecond*d.Seconds()*(c.f.ChunkSample+c.f.IndexSample) + c.seriesEntries(d)*c.f.IndexSeries
}

// seriesEntries are the series of all blocks of a time.
func (c *computation) seriesEntries(d time.Duration) float64 {
	inBlock := math.Min(longest.Hours(), math.Max(d.Hours(), 2)) / 24
	return c.Series * (1 + (c.Churn-1)*inBlock) * math.Max(1, d.Hours()/longest.Hours())
}

// bucket adds the bytes of each resolution.
func (c *computation) bucket() {
	stored := c.stored()
	raw := stored * c.rawBytes(c.Raw)
	c.add("bucket", "raw", raw, unitBytes, fmt.Sprintf("copies: %.0f, each of %s", stored, days(c.Raw)))
	total := raw
	for _, r := range []struct {
		name   string
		window time.Duration
		keep   time.Duration
		bytes  float64
	}{{"5m", 5 * time.Minute, c.FiveMinutes, c.f.Window5m}, {"1h", time.Hour, c.OneHour, c.f.Window1h}} {
		n := stored * c.Series * float64(r.keep/r.window) * r.bytes
		total += n
		c.add("bucket", r.name, n, unitBytes, fmt.Sprintf("copies: %.0f, each of %s, %.3g bytes a window", stored, days(r.keep), r.bytes))
	}
	waiting := c.copies * c.rawBytes(min(replaced, c.Raw))
	c.add("bucket", "replaced", waiting, unitBytes, fmt.Sprintf("at most %s of raw data, as written, waits for --delete-delay", days(min(replaced, c.Raw))))
	c.add("bucket", "all", total+waiting, unitBytes, "sum")
	c.add("bucket", "upload a day", c.copies*c.rawBytes(day), unitBytes, fmt.Sprintf("copies: %.0f, each of 1d", c.copies))
}

// blocks are at most the blocks of the bucket, without those that wait for deletion: of
// each source and resolution those of 14 d, and before them 7 of 2 d, 6 of 8 h and 4 of 2 h.
func (c *computation) blocks() float64 {
	n := 17.0
	for _, d := range []time.Duration{c.Raw, c.FiveMinutes, c.OneHour} {
		n += math.Ceil(d.Hours() / longest.Hours())
	}
	n += 14 // 5m and 1h data of the blocks of 2 d
	return n * float64(c.Sources) * c.stored()
}

// store adds what one gateway over the whole bucket needs.
func (c *computation) store() {
	blocks := c.blocks()
	c.add("store", "blocks", blocks, unitBlocks, fmt.Sprintf("at most; sources: %d", c.Sources))
	c.add("store", "memory", c.f.StoreFixed+blocks*c.f.StoreBlock, unitBytes, fmt.Sprintf("%s + blocks x %.0f bytes, without requests: add --chunk-pool-size, --index-cache-size and --query.max-memory", size(c.f.StoreFixed), c.f.StoreBlock))
	entries := c.stored() * (c.seriesEntries(c.Raw) + c.seriesEntries(c.FiveMinutes) + c.seriesEntries(c.OneHour))
	c.add("store", "disk", entries*c.f.HeaderSeries, unitBytes, fmt.Sprintf("index headers of %.0f series of blocks x %.3g bytes: add --store.disk-cache-size and --store.column-cache-size", entries, c.f.HeaderSeries))
}

func (c *computation) query() {
	c.add("query", "memory", c.f.QueryFixed, unitBytes, "peak over nine dashboards of a day, 4,000 series x 2 replicas each; it grows with queries to twice --query.max-memory")
}

// compact adds what one compactor of the bucket needs.
func (c *computation) compact() {
	c.add("compact", "memory", c.f.CompactFixed, unitBytes, "peak with 500 series of 14d; the buffers of large blocks grow to --compact.merge-memory")
	merges := c.perSecond * c.copies * levels
	cores := merges * c.f.MergeCPU
	if c.Merged {
		// The copies are merged at the first level, one is left afterwards.
		cores = c.perSecond * (c.copies*c.f.ReplicaCPU + (levels-1)*c.f.MergeCPU)
	}
	cores += c.perSecond * c.stored() * c.f.DownsampleCPU
	c.add("compact", "cpu", cores/1e6, unitCores, fmt.Sprintf("%d levels of merging and downsampling of %.0f samples a second", levels, c.perSecond*c.copies))
	block := c.Series / float64(c.Sources) * (1 + (c.Churn-1)*longest.Hours()/24) * c.f.IndexSeries
	block += c.perSecond / float64(c.Sources) * longest.Seconds() * c.f.IndexSample
	c.add("compact", "disk", block+2*512<<20, unitBytes, "index of the longest block of a source and two segments of 512MB")
}

// size prints bytes with a binary prefix.
func size(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB", "TiB"} {
		if n < 1000 {
			return fmt.Sprintf("%.3g %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.4g PiB", n)
}

// Text prints the amount with its unit.
func (n Need) Text() string {
	if n.Unit == unitBytes {
		return size(n.Amount)
	}
	if n.Unit == unitBlocks {
		return fmt.Sprintf("%.0f %s", n.Amount, n.Unit)
	}
	return fmt.Sprintf("%.3g %s", n.Amount, n.Unit)
}

// days prints a duration in days where it has some.
func days(d time.Duration) string {
	if d >= day {
		return fmt.Sprintf("%.3gd", d.Hours()/24)
	}
	return d.String()
}
