package doctor

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/claim"
)

// reader parses the lines of a case besides those of blocktest:
//
//	now 100h
//	claim <instance> labels={…} beat=<time> skew=<duration> since=<time> stopped until=<time>,<time>
//	head <dir> labels={…} at=<time>
//	store <address> <component> labels={…} until=<time> err=<word> warning=<word>
//	prometheus labels={…} err=<word>
//	unusable <block>
type reader struct {
	t      *testing.T
	in     Input
	blocks strings.Builder
}

func (r *reader) labels(s string) labels.Labels {
	if s == "" {
		return labels.EmptyLabels()
	}
	ls, err := parser.NewParser(parser.Options{}).ParseMetric(s)
	require.NoError(r.t, err)
	return ls
}

func (r *reader) time(s string) time.Time {
	d, err := time.ParseDuration(s)
	require.NoError(r.t, err, s)
	return time.Unix(0, 0).Add(d)
}

// line parses one line.
func (r *reader) line(line string) {
	words := strings.Fields(line)
	keys := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		keys[k] = v
	}
	switch words[0] {
	case "now":
		r.in.Now = r.time(words[1])
	case "claim":
		c := claim.Entry{Modified: r.time(keys["beat"])}
		c.Instance, c.Labels, c.Host, c.Directory = words[1], r.labels(keys["labels"]).Map(), "host-"+words[1], "/data"
		c.Heartbeat, c.IntervalSeconds = c.Modified, 120
		if s := keys["skew"]; s != "" {
			c.Heartbeat = c.Modified.Add(r.time(s).Sub(time.Unix(0, 0)))
		}
		if s := keys["since"]; s != "" {
			c.Since = r.time(s)
		} else {
			c.Since = c.Modified
		}
		_, c.Stopped = keys["stopped"]
		if u := keys["until"]; u != "" {
			for i, s := range strings.Split(u, ",") {
				c.Previous = append(c.Previous, claim.Previous{Labels: map[string]string{"was": fmt.Sprint(i)}, Until: r.time(s)})
			}
		}
		r.in.Claims = append(r.in.Claims, c)
	case "head":
		r.in.Heads = append(r.in.Heads, Head{Dir: words[1], Labels: r.labels(keys["labels"]), Modified: r.time(keys["at"])})
	case "store":
		s := Store{Address: words[1], Component: words[2], Err: keys["err"]}
		if keys["until"] != "" {
			s.MaxTime = r.time(keys["until"]).UnixMilli()
		}
		if keys["labels"] != "" {
			s.LabelSets = []labels.Labels{r.labels(keys["labels"])}
		}
		if keys["warning"] != "" {
			s.Warnings = []string{keys["warning"]}
		}
		r.in.Stores = append(r.in.Stores, s)
	case "prometheus":
		r.in.Prometheus = &Prometheus{URL: "http://prom", Labels: r.labels(keys["labels"]), Err: keys["err"]}
	case "unusable":
		r.in.Unusable[blocktest.ID(words[1])] = "meta_malformed"
	default:
		r.blocks.WriteString(line + "\n")
	}
}

// The file has cases: a line "= name", the input, a line "->", and a line for each finding:
// its severity, kind and subject, and a part of its details after " | ".
func TestDiagnose(t *testing.T) {
	text, err := os.ReadFile("testdata/diagnose.txt")
	require.NoError(t, err)
	for _, c := range strings.Split("\n"+string(text), "\n= ")[1:] {
		name, rest, _ := strings.Cut(c, "\n")
		input, output, found := strings.Cut(rest, "->\n")
		require.True(t, found, name)
		t.Run(name, func(t *testing.T) {
			r := &reader{t: t}
			r.in.Unusable = map[ulid.ULID]string{}
			for line := range strings.SplitSeq(input, "\n") {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
					r.line(line)
				}
			}
			spec, err := blocktest.Parse(r.blocks.String())
			require.NoError(t, err)
			for _, b := range spec.Blocks {
				r.in.Blocks = append(r.in.Blocks, &b.Meta)
			}
			got := Diagnose(r.in, Options{
				ReplicaLabels: []string{"replica"}, Lag: 6 * time.Hour, Forget: 30 * 24 * time.Hour, Skew: 30 * time.Second,
			})
			var want []string
			for line := range strings.SplitSeq(strings.TrimSpace(output), "\n") {
				if line != "" {
					want = append(want, line)
				}
			}
			require.Len(t, got, len(want), "%v", got)
			for i, f := range got {
				head, details, _ := strings.Cut(want[i], " | ")
				require.Equal(t, head, fmt.Sprintf("%s %s %s", f.Severity, f.Kind, f.Subject))
				require.Contains(t, f.Details, details)
				require.NotEmpty(t, f.Advice)
			}
		})
	}
}
