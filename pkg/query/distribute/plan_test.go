package distribute_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/distribute"
)

const plansFile = "testdata/plans.txt"

// The file has lines that set up the stores and the query's times, and for each query
// what is left of it here, the parts that are pushed and why others are not:
//
//	leaf <name> [from=<s>] [to=<s>] [cannot=<text>] [unmerged=true] <label set>...
//	replica <name>...
//	times <start ms> <end ms> <step ms>
//	reset
//	> <query>
func TestPlans_AreThoseOfTheFile(t *testing.T) {
	content, err := os.ReadFile(plansFile)
	require.NoError(t, err)
	in := fresh()
	var out []string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue // a result
		}
		out = append(out, line)
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "reset":
			in = fresh()
		case "leaf":
			in.Leaves = append(in.Leaves, leaf(t, rest))
		case "replica":
			in.ReplicaLabels = strings.Fields(rest)
		case "whole":
			in.Whole = rest
		case "times":
			_, err := fmt.Sscan(rest, &in.Start, &in.End, &in.Step)
			require.NoError(t, err, line)
		case ">":
			out = append(out, planned(t, in, rest)...)
		}
	}
	got := strings.Join(out, "\n") + "\n"
	if os.Getenv("UPDATE_PLANS") != "" {
		require.NoError(t, os.WriteFile(plansFile, []byte(got), 0o644))
	}
	require.Equal(t, string(content), got)
}

func fresh() distribute.Input {
	return distribute.Input{Start: 1_000_000_000, End: 1_003_600_000, Step: 60_000, Lookback: 300_000}
}

func parse(t *testing.T, text string) parser.Expr {
	e, err := parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(text)
	require.NoError(t, err, text)
	return e
}

func leaf(t *testing.T, text string) distribute.Leaf {
	words := strings.Fields(text)
	l := distribute.Leaf{Name: words[0], MinTime: 0, MaxTime: 1 << 60}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		seconds, err := strconv.ParseInt(value, 10, 64)
		switch key {
		case "from":
			require.NoError(t, err)
			l.MinTime = seconds * 1000
		case "to":
			require.NoError(t, err)
			l.MaxTime = seconds * 1000
		case "unmerged":
			l.Unmerged = true
		case "cannot":
			l.Cannot = strings.ReplaceAll(value, "_", " ")
		default:
			ms := parse(t, w).(*parser.VectorSelector).LabelMatchers
			b := labels.NewScratchBuilder(len(ms))
			for _, m := range ms {
				if m.Name != "none" {
					b.Add(m.Name, m.Value)
				}
			}
			b.Sort()
			l.LabelSets = append(l.LabelSets, b.Labels())
		}
	}
	return l
}

func planned(t *testing.T, in distribute.Input, query string) []string {
	in.Expr = parse(t, query)
	p := distribute.Make(in, func(i int) parser.Expr { return parse(t, fmt.Sprintf("part%d", i)) })
	out := []string{"  here: " + p.Expr.String()}
	for i, part := range p.Parts {
		merged := ""
		if part.Merged {
			merged = ", merged"
		}
		out = append(out, fmt.Sprintf("  part%d at %s%s: %s", i, strings.Join(part.Leaves, ", "), merged, part.Query))
		require.Equal(t, part.Query, parse(t, part.Query).String(), "the text of a part is that of its tree")
	}
	for _, d := range p.Decisions {
		if !d.Pushed {
			out = append(out, fmt.Sprintf("  not %s: %s", d.Expr, d.Reason))
		}
	}
	return out
}
