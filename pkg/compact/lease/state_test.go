package lease

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestState carries out scripts of the pure state machines. Each line is one step:
//
//	TIME see OWNER COUNT [lease=DURATION]   this process reads a heartbeat; COUNT may be "none"
//	TIME lease [owner=X] [epoch=N] [until=DURATION] [listed=DURATION]
//	                                        what process M may do with a lease; without owner
//	                                        and epoch it does not exist
//	judge me=ID[+working] other=ID[+working] [alive] [dead]
func TestState(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			var out strings.Builder
			w := watch{}
			dead := map[string]bool{}
			for line := range strings.Lines(d.Input) {
				fmt.Fprintln(&out, step(t, w, dead, strings.Fields(line)))
			}
			return out.String()
		})
	})
}

const ownLease = time.Minute

func step(t *testing.T, w watch, dead map[string]bool, f []string) string {
	t.Helper()
	arg := map[string]string{}
	for _, s := range f {
		k, v, _ := strings.Cut(s, "=")
		arg[k] = v
	}
	if f[0] == "judge" {
		_, alive := arg["alive"]
		_, gone := arg["dead"]
		return string(judge(beatOf(arg["me"]), beatOf(arg["other"]), alive, gone))
	}
	now := duration(t, f[0])
	switch f[1] {
	case "see":
		var b *beat
		if f[3] != "none" {
			b = &beat{Owner: f[2], Process: "p"}
			fmt.Sscan(f[3], &b.Count)
			if l := arg["lease"]; l != "" {
				b.LeaseMillis = duration(t, l).Milliseconds()
			}
		}
		same := w.see(now, f[2], b)
		dead[f[2]] = silent(same, b, ownLease)
		return fmt.Sprintf("same for %s, silent: %t", same, dead[f[2]])
	case "lease":
		var r *record
		if _, ok := arg["epoch"]; ok {
			r = &record{Owner: arg["owner"]}
			fmt.Sscan(arg["epoch"], &r.Epoch)
			r.WorkedUntil = duration(t, arg["until"]).Milliseconds()
		}
		dec := decide(r, "M", func(o string) bool { return dead[o] })
		if dec == busy {
			return string(dec)
		}
		return fmt.Sprintf("%s epoch %d, fresh: %t", dec, next(r, "g", "M", "h", "n").Epoch, fresh(r, time.UnixMilli(duration(t, arg["listed"]).Milliseconds())))
	}
	t.Fatalf("unknown step %v", f)
	return ""
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func beatOf(s string) *beat {
	if s == "" {
		return nil
	}
	id, working, _ := strings.Cut(s, "+")
	return &beat{Owner: id, Working: working != ""}
}
