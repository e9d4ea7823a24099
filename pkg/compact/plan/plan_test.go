package plan_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/model"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// TestMake_Texts runs the cases in testdata; -rewrite writes the results into them.
// Each has a bucket, one block a line, and the plan for it. Times are hours or days
// since 1970; "now=100d" is the current time.
func TestMake_Texts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		b := newBucket()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "bucket":
				b = newBucket()
				for line := range strings.Lines(d.Input) {
					b.line(t, strings.TrimSpace(line))
				}
				return b.String()
			case "more":
				for line := range strings.Lines(d.Input) {
					b.line(t, strings.TrimSpace(line))
				}
				return b.String()
			case "plan":
				p := plan.Make(b.view, policy(t, d), time.UnixMilli(0).Add(arg(t, d, "now", "100d")))
				return b.print(p)
			}
			t.Fatalf("unknown command %q", d.Cmd)
			return ""
		})
	})
}

// bucket translates between names and ULIDs.
type bucket struct {
	view  plan.View
	ids   map[string]ulid.ULID
	names map[ulid.ULID]string
}

func newBucket() *bucket {
	return &bucket{
		view: plan.View{
			Metas: map[ulid.ULID]*block.Meta{}, Published: map[ulid.ULID]time.Time{}, Marked: map[ulid.ULID]time.Time{}, Partial: map[ulid.ULID]plan.Partial{},
			Deletion: map[ulid.ULID]*block.DeletionMark{}, NoCompact: map[ulid.ULID]*block.NoCompactMark{},
			NoDownsample: map[ulid.ULID]*block.NoDownsampleMark{}, Quarantined: map[ulid.ULID]string{}, Incomplete: map[ulid.ULID]string{}, SkippedInPass: map[ulid.ULID]string{},
		},
		ids: map[string]ulid.ULID{}, names: map[ulid.ULID]string{},
	}
}

// id makes ULIDs that sort as they are first mentioned, at time 0.
func (b *bucket) id(name string) ulid.ULID {
	if id, ok := b.ids[name]; ok {
		return id
	}
	var id ulid.ULID
	id[15] = byte(len(b.ids) + 1)
	b.ids[name], b.names[id] = id, name
	return id
}

// line reads "name from-to [raw|5m|1h] [key=value …]".
func (b *bucket) line(t *testing.T, line string) {
	words := strings.Fields(line)
	id := b.id(words[0])
	m := &block.Meta{}
	m.ULID = id
	m.Compaction.Sources = []ulid.ULID{id}
	m.Thanos.Source = block.SourceSidecar
	m.Thanos.Labels = map[string]string{"cluster": "eu"}
	from, to, _ := strings.Cut(words[1], "-")
	m.MinTime, m.MaxTime = duration(t, from).Milliseconds(), duration(t, to).Milliseconds()
	b.view.Metas[id] = m
	for _, w := range words[2:] {
		b.attribute(t, m, w)
	}
}

func (b *bucket) attribute(t *testing.T, m *block.Meta, word string) {
	key, val, _ := strings.Cut(word, "=")
	id := m.ULID
	switch key {
	case "raw":
	case "5m":
		m.Thanos.Downsample.Resolution = block.Resolution5m
	case "1h":
		m.Thanos.Downsample.Resolution = block.Resolution1h
	case "compacted":
		m.Thanos.Source = block.SourceCompactor
	case "published":
		b.view.Published[id] = time.UnixMilli(duration(t, val).Milliseconds())
	case "failed":
		m.Compaction.Failed = true
	case "of":
		m.Thanos.Source = block.SourceCompactor
		m.Compaction.Sources = nil
		for s := range strings.SplitSeq(val, ",") {
			m.Compaction.Sources = append(m.Compaction.Sources, b.id(s))
		}
	case "shard": // set/index/count
		var set, index, count string
		set, val, _ = strings.Cut(val, "/")
		index, count, _ = strings.Cut(val, "/")
		i, err := strconv.Atoi(index)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(count)
		if err != nil {
			t.Fatal(err)
		}
		m.SetShard(block.Shard{Set: b.id(set), Index: i, Count: n})
	case "samples":
		n, err := strconv.ParseUint(val, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		m.Stats.NumSamples = n
	case "rewritten":
		m.Thanos.Rewrites = []byte("[{}]")
	case "uploaded":
		m.Thanos.UploadTime = time.UnixMilli(duration(t, val).Milliseconds())
	case "deleted-at":
		b.view.Deletion[id] = &block.DeletionMark{DeletionTime: int64(duration(t, val).Seconds()), Details: "by hand"}
	case "marked-at":
		b.view.Marked[id] = time.UnixMilli(duration(t, val).Milliseconds())
	case "no-compact":
		b.view.NoCompact[id] = &block.NoCompactMark{Reason: "manual"}
	case "no-downsample":
		b.view.NoDownsample[id] = &block.NoDownsampleMark{Reason: "manual"}
	case "quarantined":
		b.view.Quarantined[id] = val
	case "incomplete":
		b.view.Incomplete[id] = val
	case "skipped":
		b.view.SkippedInPass[id] = val
	case "partial":
		delete(b.view.Metas, id)
		b.view.Partial[id] = plan.Partial{Reason: reason.BlockMetaMissing, LastModified: time.UnixMilli(duration(t, val).Milliseconds())}
	case "malformed":
		delete(b.view.Metas, id)
		b.view.Partial[id] = plan.Partial{Reason: reason.BlockMetaMalformed}
	default:
		m.Thanos.Labels[key] = val
	}
}

func policy(t *testing.T, d *datadriven.TestData) plan.Policy {
	p := plan.Policy{
		Ranges: plan.Ranges(), Retention: map[int64]time.Duration{},
		DeleteDelay: arg(t, d, "delete-delay", "48h"), ConsistencyDelay: 30 * time.Minute, Downsampling: !d.HasArg("no-downsampling"),
	}
	for r, key := range map[int64]string{block.ResolutionRaw: "keep-raw", block.Resolution5m: "keep-5m", block.Resolution1h: "keep-1h"} {
		p.Retention[r] = arg(t, d, key, "0s")
	}
	if d.HasArg("replica-label") {
		d.ScanArgs(t, "replica-label", &p.ReplicaLabels)
	}
	if d.HasArg("only") {
		var only string
		d.ScanArgs(t, "only", &only)
		p.Owns = func(m *block.Meta) bool { return m.Thanos.Labels["cluster"] == only }
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return p
}

func arg(t *testing.T, d *datadriven.TestData, key, def string) time.Duration {
	if d.HasArg(key) {
		d.ScanArgs(t, key, &def)
	}
	return duration(t, def)
}

func duration(t *testing.T, s string) time.Duration {
	d, err := model.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(d)
}

func (b *bucket) print(p plan.Plan) string {
	var out strings.Builder
	for _, j := range p.Jobs {
		names := make([]string, len(j.Blocks))
		for i, id := range j.Blocks {
			names[i] = b.names[id]
		}
		fmt.Fprintf(&out, "%s %s", j.Kind, strings.Join(names, " "))
		if j.Kind == plan.Downsample {
			fmt.Fprintf(&out, " to %s", plan.ResolutionName(j.Resolution))
		}
		if j.Kind == plan.Merge {
			fmt.Fprintf(&out, " (%s, %s)", j.Group, span(j.MinTime, j.MaxTime))
		}
		if j.Downsample > 0 {
			fmt.Fprintf(&out, " and to %s", plan.ResolutionName(j.Downsample))
		}
		fmt.Fprintf(&out, ": %s\n", b.named(j.Reason))
	}
	for _, s := range p.Skipped {
		fmt.Fprintf(&out, "skip %s: %s\n", b.names[s.Block], b.named(s.Details))
	}
	if out.Len() == 0 {
		return "nothing to do"
	}
	return out.String()
}

func span(mint, maxt int64) string {
	return model.Duration(mint*int64(time.Millisecond)).String() + "-" + model.Duration(maxt*int64(time.Millisecond)).String()
}

func (b *bucket) named(s string) string {
	for id, name := range b.names {
		s = strings.ReplaceAll(s, id.String(), name)
	}
	return s
}

func (b *bucket) String() string {
	return fmt.Sprintf("%d blocks", len(b.view.Metas)+len(b.view.Partial))
}

// Carrying out plans for random buckets ends, and loses no sample that is not out of
// retention.
func TestMake_SettlesRandomBuckets(t *testing.T) {
	for seed := range uint64(36) {
		settle(t, seed)
	}
}
