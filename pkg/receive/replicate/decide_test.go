package replicate

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

var verdicts = map[verdict]string{setPending: "pending", setWon: "won", setLost: "lost"}

// kindNamed is the inverse of Kind.String.
func kindNamed(t *testing.T, name string) remotewrite.Kind {
	for kind := remotewrite.Kind(0); int(kind) < kinds; kind++ {
		if kind.String() == name {
			return kind
		}
	}
	t.Fatalf("no kind of failure is called %q", name)
	return 0
}

// "set" counts the answers of each line for one replica set, and shows the
// verdict after each. "request" joins the causes of lost sets to that of the
// request.
func TestQuorumDecisions(t *testing.T) {
	datadriven.RunTest(t, "testdata/quorum.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		switch d.Cmd {
		case "set":
			replicas := 0
			d.ScanArgs(t, "replicas", &replicas)
			for line := range strings.Lines(d.Input) {
				answers := strings.Fields(line)
				out.WriteString(strings.Join(answers, " ") + ":")
				s := setState{Replicas: replicas, Quorum: quorumOf(replicas)}
				for _, a := range answers {
					var err error
					if a != "ok" {
						err = remotewrite.Errorf(kindNamed(t, a), "x")
					}
					s.report(err)
					out.WriteString(" " + verdicts[s.verdict()])
				}
				if s.verdict() == setLost {
					fmt.Fprintf(&out, " (%s)", s.cause())
				}
				out.WriteString("\n")
			}
		case "request":
			for line := range strings.Lines(d.Input) {
				var lost []remotewrite.Kind
				for _, name := range strings.Fields(line) {
					lost = append(lost, kindNamed(t, name))
				}
				cause := requestCause(lost)
				fmt.Fprintf(&out, "%s: %s, status %d\n", strings.TrimSpace(line), cause, cause.Status())
			}
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		return out.String()
	})
}

// "ring" loads a hashring; "spread" lists the series and copies of each
// node. Series are lines "tenant: names"; "+metadata" adds metadata to a request.
func TestSpreadDecisions(t *testing.T) {
	rings := ""
	datadriven.RunTest(t, "testdata/spread.txt", func(t *testing.T, d *datadriven.TestData) string {
		if d.Cmd == "ring" {
			rings = d.Input
			return "ok\n"
		}
		replicas, tgt, merged := 1, target{}, []string(nil)
		for _, arg := range d.CmdArgs {
			switch arg.Key {
			case "replicas":
				arg.Scan(t, 0, &replicas)
			case "self":
				tgt.self = arg.Vals[0]
			case "only":
				arg.Scan(t, 0, &tgt.only)
			case "merged":
				merged = arg.Vals
			default:
				d.Fatalf(t, "unknown argument %s", arg.Key)
			}
		}
		tgt.form = func(address string) Form { return Form{Merged: slices.Contains(merged, address)} }
		specs, err := hashring.Parse([]byte(rings))
		require.NoError(t, err)
		if tgt.rings, err = hashring.New(specs, hashring.Options{Algorithm: hashring.Ketama, Replicas: replicas}); err != nil {
			return "refused: " + err.Error() + "\n"
		}
		var reqs []Request
		for line := range strings.Lines(d.Input) {
			reqs = append(reqs, requestOf(t, line))
		}
		plan, err := spread(reqs, tgt)
		if err != nil {
			return "refused: " + err.Error() + "\n"
		}
		defer plan.release()
		return planText(t, plan)
	})
}

func requestOf(t *testing.T, line string) Request {
	tenant, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
	require.True(t, ok, line)
	var req prompb.WriteRequest
	for _, name := range strings.Fields(rest) {
		if name == "+metadata" {
			req.Metadata = append(req.Metadata, prompb.MetricMetadata{MetricFamilyName: "family", Help: "help"})
			continue
		}
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{{Name: "__name__", Value: name}}, Samples: []prompb.Sample{{Timestamp: 1}},
		})
	}
	raw, err := req.Marshal()
	require.NoError(t, err)
	buf := remotewrite.NewBuffer(len(raw))
	buf.B = append(buf.B, raw...)
	b, err := remotewrite.ScanV1(buf, buf.B)
	require.NoError(t, err)
	return Request{Tenant: tenant, Batch: b}
}

func planText(t *testing.T, plan *plan) string {
	var out strings.Builder
	for i, s := range plan.Sets {
		fmt.Fprintf(&out, "set %d: %d replicas, quorum %d\n", i, s.Replicas, s.Quorum)
	}
	for _, l := range plan.locals {
		fmt.Fprintf(&out, "here %s: sets %v,", l.Tenant, l.sets)
		for i := range l.Batch.Len() {
			if l.all || slices.Contains(l.series, uint32(i)) {
				fmt.Fprintf(&out, " %s", nameOf(l.Batch.Series(i).Labels))
			}
		}
		out.WriteString("\n")
	}
	slices.SortFunc(plan.peers, func(a, b peerParts) int { return strings.Compare(a.address, b.address) })
	for _, p := range plan.peers {
		for _, part := range p.parts {
			fmt.Fprintf(&out, "%s %s: ", p.address, part.Tenant)
			switch {
			case len(part.sets) == 0:
				out.WriteString("metadata")
			case part.Replica == 0:
				fmt.Fprintf(&out, "sets %v, copies %v,", part.sets, part.replicas)
			default:
				fmt.Fprintf(&out, "sets %v, copy %d,", part.sets, part.Replica)
			}
			out.WriteString(namesOf(t, part) + "\n")
		}
	}
	return out.String()
}

func nameOf(raw []byte) string {
	var lb remotewrite.LabelBuilder
	ls, err := lb.Build(raw, remotewrite.LabelLimits{})
	if err != nil {
		return err.Error()
	}
	return ls.Get("__name__")
}

func namesOf(t *testing.T, p Part) (out string) {
	raw := bytes.Join(p.Regions, nil)
	buf := remotewrite.NewBuffer(len(raw))
	buf.B = append(buf.B, raw...)
	b, err := remotewrite.ScanV1(buf, buf.B)
	require.NoError(t, err)
	defer b.Close()
	for i := range b.Len() {
		out += " " + nameOf(b.Series(i).Labels)
	}
	return out
}

// The parts that a plan gives to its nodes hold each series as often as its set
// has replicas.
func TestSpread_GivesEachSeriesToEveryReplica(t *testing.T) {
	var endpoints []hashring.Endpoint
	for i := range 7 {
		endpoints = append(endpoints, hashring.Endpoint{Address: fmt.Sprintf("n%d:1", i)})
	}
	for replicas := 1; replicas <= 5; replicas++ {
		rings, err := hashring.New([]hashring.Spec{{Endpoints: endpoints}}, hashring.Options{Algorithm: hashring.Ketama, Replicas: replicas})
		require.NoError(t, err)
		b := batch(t, 100, "m")
		plan, err := spread([]Request{{Tenant: "t", Batch: b}}, target{rings: rings, self: "n3:1", form: func(string) Form { return Form{Merged: true} }})
		require.NoError(t, err)
		copies := map[string]int{}
		count := func(names string) {
			for _, n := range strings.Fields(names) {
				copies[n]++
			}
		}
		for _, p := range plan.peers {
			for _, part := range p.parts {
				count(namesOf(t, part))
			}
		}
		for _, l := range plan.locals {
			for i := range b.Len() {
				if l.all || slices.Contains(l.series, uint32(i)) {
					count(nameOf(b.Series(i).Labels))
				}
			}
		}
		require.Len(t, copies, b.Len())
		for name, n := range copies {
			require.Equal(t, replicas, n, name)
		}
		plan.release()
		b.Close()
	}
}
