package blocklist_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// name returns the name of a test block.
func name(id ulid.ULID) string { return strings.TrimRight(string(id[6:]), "\x00") }

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := model.ParseDuration(s)
	require.NoError(t, err)
	return time.Duration(d)
}

func TestFilters(t *testing.T) {
	var view *blocklist.View
	datadriven.RunTest(t, "testdata/filters.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "bucket":
			v, err := blocklist.NewPoller(blocktest.Bucket(t, d.Input), blocklist.Config{}).Poll(t.Context())
			require.NoError(t, err)
			view = v
			return describe(v)
		case "apply":
			v := *view
			if d.HasArg("now") {
				var now string
				d.ScanArgs(t, "now", &now)
				v.Taken = time.UnixMilli(0).Add(duration(t, now))
			}
			var filters []blocklist.Filter
			for line := range strings.SplitSeq(d.Input, "\n") {
				filters = append(filters, filter(t, strings.Fields(line)))
			}
			out, dropped := v.Apply(filters...)
			require.Len(t, out.Sizes, len(out.Metas))
			return kept(out) + lost(dropped)
		}
		t.Fatalf("unknown command %s", d.Cmd)
		return ""
	})
}

func describe(v *blocklist.View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d blocks, %d partial\n", len(v.Metas), len(v.Partial))
	for _, id := range sorted(v.Deletion) {
		fmt.Fprintf(&b, "%s deletion at %d\n", name(id), v.Deletion[id].DeletionTime)
	}
	for _, id := range sorted(v.NoCompact) {
		fmt.Fprintf(&b, "%s no-compact %s\n", name(id), v.NoCompact[id].Reason)
	}
	for _, id := range sorted(v.NoDownsample) {
		fmt.Fprintf(&b, "%s no-downsample %s\n", name(id), v.NoDownsample[id].Reason)
	}
	return b.String()
}

func sorted[V any](m map[ulid.ULID]V) []ulid.ULID {
	ids := make([]ulid.ULID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, ulid.ULID.Compare)
	return ids
}

func kept(v *blocklist.View) string {
	words := []string{"kept"}
	for _, id := range sorted(v.Metas) {
		words = append(words, name(id))
	}
	if len(words) == 1 {
		words = append(words, "-")
	}
	return strings.Join(words, " ") + "\n"
}

func lost(dropped map[ulid.ULID]string) string {
	var b strings.Builder
	for _, id := range sorted(dropped) {
		fmt.Fprintf(&b, "dropped %s by %s\n", name(id), dropped[id])
	}
	return b.String()
}

func filter(t *testing.T, words []string) blocklist.Filter {
	t.Helper()
	switch words[0] {
	case "time_partition":
		from, to, _ := strings.Cut(words[1], "..")
		return blocklist.TimePartition(duration(t, from).Milliseconds(), duration(t, to).Milliseconds())
	case "consistency_delay":
		return blocklist.ConsistencyDelay(duration(t, words[1]))
	case "deletion_mark":
		return blocklist.DeletionMarkDelay(duration(t, words[1]))
	case "duplicates":
		return blocklist.Duplicates()
	case "superseded":
		return blocklist.Superseded()
	case "shard":
		return blocklist.Shard(relabelling(words[1:]))
	}
	t.Fatalf("unknown filter %s", words[0])
	return blocklist.Filter{}
}

func relabelling(words []string) []*relabel.Config {
	if words[0] == "hashmod" {
		var mod uint64
		if _, err := fmt.Sscan(words[1], &mod); err != nil {
			panic(err)
		}
		return []*relabel.Config{
			{Action: relabel.HashMod, SourceLabels: model.LabelNames{"__block_id"}, Regex: relabel.DefaultRelabelConfig.Regex, TargetLabel: "shard", Modulus: mod, NameValidationScheme: model.UTF8Validation},
			{Action: relabel.Keep, SourceLabels: model.LabelNames{"shard"}, Regex: relabel.MustNewRegexp("0"), NameValidationScheme: model.UTF8Validation},
		}
	}
	re := words[2]
	if id, ok := strings.CutPrefix(re, "$"); ok {
		re = blocktest.ID(id).String()
	}
	return []*relabel.Config{{
		Action: relabel.Action(words[0]), SourceLabels: model.LabelNames{model.LabelName(words[1])},
		Regex: relabel.MustNewRegexp(re), NameValidationScheme: model.UTF8Validation,
	}}
}

func TestApply_DoesNotChangeTheView(t *testing.T) {
	b := blocktest.Bucket(t, `
meta a labels={cluster="eu",replica="0"}
meta b labels={cluster="eu",replica="1"}
`)
	v, err := blocklist.NewPoller(b, blocklist.Config{}).Poll(t.Context())
	require.NoError(t, err)
	out, _ := v.Apply(blocklist.TimePartition(1<<60, 1<<61))
	require.Empty(t, out.Metas)
	require.Len(t, v.Metas, 2)
	require.Equal(t, map[string]string{"cluster": "eu", "replica": "1"}, v.Metas[blocktest.ID("b")].Thanos.Labels)
	same, dropped := v.Apply()
	require.Same(t, v, same)
	require.Empty(t, dropped)
	require.Equal(t, block.SourceSidecar, v.Metas[blocktest.ID("a")].Thanos.Source)
}
