package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// TestQuarantine_Text shows for each block, at a time, whether it is served and
// whether queries read it.
func TestQuarantine_Text(t *testing.T) {
	metas := map[ulid.ULID]*block.Meta{}
	var q quarantine
	names := map[ulid.ULID]string{}
	at := func(t *testing.T, d *datadriven.TestData) time.Time {
		var s string
		d.ScanArgs(t, "at", &s)
		after, err := time.ParseDuration(s)
		require.NoError(t, err)
		return time.Unix(0, 0).Add(after)
	}
	datadriven.RunTest(t, "testdata/quarantine.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "blocks":
			spec, err := blocktest.Parse(d.Input)
			require.NoError(t, err)
			clear(metas)
			for _, b := range spec.Blocks {
				if len(b.Meta.Compaction.Sources) == 0 {
					b.Meta.Compaction.Sources = []ulid.ULID{b.Meta.ULID}
				}
				metas[b.Meta.ULID], names[b.Meta.ULID] = &b.Meta, b.Name
			}
			q.keepOnly(metas)
			return ""
		case "damage":
			name := d.CmdArgs[0].Key
			q.add(blocktest.ID(name), "wrong checksum", at(t, d))
			return fmt.Sprintf("first report: %t\n", q.firstReport(blocktest.ID(name), "index_header"))
		case "blocks-at":
			now := at(t, d)
			view, dropped := (&blocklist.View{Metas: metas}).Apply(damaged(q.current(now)), blocklist.Duplicates())
			var out strings.Builder
			for _, id := range slices.SortedFunc(maps.Keys(metas), ulid.ULID.Compare) {
				switch {
				case view.Metas[id] == nil:
					fmt.Fprintf(&out, "%s is excluded: %s\n", names[id], dropped[id])
				case q.reason(id, now) != "":
					fmt.Fprintf(&out, "%s is served, but not read: %s\n", names[id], q.reason(id, now))
				default:
					fmt.Fprintf(&out, "%s is served\n", names[id])
				}
			}
			return out.String()
		}
		t.Fatalf("unknown command %s", d.Cmd)
		return ""
	})
}
