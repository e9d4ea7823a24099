package lifecycle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

var (
	purposeNames = []string{"for idle", "for removal", "for shutdown", "for reopening"}
	doNames      = []string{
		"serve it from the TSDB", "answer with nothing", "keep the metadata", "wait, then ask again", "refuse it",
		"open the TSDB", "close the TSDB", "delete the directory", "log", "UNEXPECTED",
	}
	reasonNames = []string{"the node is not ready", "too many tenants", "it cannot be opened", "it is being opened again"}
	levelNames  = []string{"debug", "info", "error"}
)

var start = time.Unix(1_000_000, 0)

// describe returns a tenant in words.
func describe(t Tenant) string {
	out := []string{t.State.String()}
	if t.State == Closing {
		out = append(out, purposeNames[t.Purpose])
	}
	switch t.Extent {
	case Within:
		out = append(out, fmt.Sprintf("with samples of %d to %d", t.Range.Min, t.Range.Max))
	case Unknown:
		out = append(out, "with unknown samples")
	}
	if t.Failures > 0 {
		out = append(out, fmt.Sprintf("after %d failures", t.Failures))
	}
	if t.State == Failed {
		out = append(out, fmt.Sprintf("until %s", t.RetryAt.Sub(start)))
	}
	if t.Described {
		out = append(out, "with metadata")
	}
	return strings.Join(out, ", ")
}

func describeEffect(e Effect) string {
	out := doNames[e.Do]
	switch e.Do {
	case Refuse:
		out += ": " + reasonNames[e.Reason]
	case Log:
		out += " " + levelNames[e.Level] + ": " + e.Text
	}
	if e.Err != nil {
		out += " (" + e.Err.Error() + ")"
	}
	if e.RetryAfter > 0 {
		out += fmt.Sprintf(", again in %s", e.RetryAfter)
	}
	return out
}

type pair struct {
	state State
	kind  Kind
}

// transcript plays one file. The first line of a case is an event, or "tenant"
// followed by a state, to begin with another tenant. The answer is the state after
// it, and one line for each effect.
type transcript struct {
	tenant Tenant
	seen   map[pair]bool
}

func (s *transcript) play(t *testing.T, d *datadriven.TestData) string {
	if d.Cmd == "tenant" {
		s.tenant = parseTenant(t, d)
		return describe(s.tenant) + "\n"
	}
	e := parseEvent(t, d, s.tenant)
	s.seen[pair{s.tenant.State, e.Kind}] = true
	next, effects := s.tenant.Next(e)
	out := describe(next) + "\n"
	for _, f := range effects {
		out += "  " + describeEffect(f) + "\n"
	}
	s.tenant = next
	return out
}

func parseTenant(t *testing.T, d *datadriven.TestData) (out Tenant) {
	out.State = State(index(t, d, stateNames[:], d.CmdArgs[0].Key))
	for _, a := range d.CmdArgs[1:] {
		switch a.Key {
		case "samples":
			out.Extent, out.Range = Within, parseRange(t, d, a.Vals)
		case "unknown":
			out.Extent = Unknown
		case "metadata":
			out.Described = true
		case "for-removal":
			out.Purpose = ForRemoval
		case "for-shutdown":
			out.Purpose = ForShutdown
		case "for-reopening":
			out.Purpose = ForReopening
		case "failures":
			_, err := fmt.Sscan(a.Vals[0], &out.Failures)
			require.NoError(t, err, d.Pos)
			out.Err = errors.New("broken")
		case "until":
			out.RetryAt = parseTime(t, d, a.Vals[0])
		default:
			d.Fatalf(t, "unknown argument %q", a.Key)
		}
	}
	return out
}

func parseEvent(t *testing.T, d *datadriven.TestData, tenant Tenant) Event {
	e := Event{Kind: Kind(index(t, d, kindNames[:], d.Cmd)), Now: start, Epoch: tenant.Epoch}
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "of", "samples":
			e.Range = parseRange(t, d, a.Vals)
		case "at":
			e.Now = parseTime(t, d, a.Vals[0])
		case "tenants":
			_, err := fmt.Sscan(strings.Join(a.Vals, " "), &e.Tenants, &e.MaxTenants)
			require.NoError(t, err, d.Pos)
		case "not-ready":
			e.NotReady = true
		case "stale":
			e.Epoch--
		case "err":
			e.Err = errors.New(a.Vals[0])
		default:
			d.Fatalf(t, "unknown argument %q", a.Key)
		}
	}
	return e
}

func index(t *testing.T, d *datadriven.TestData, names []string, name string) int {
	for i, n := range names {
		if n == name {
			return i
		}
	}
	d.Fatalf(t, "unknown name %q, want one of %v", name, names)
	return 0
}

func parseRange(t *testing.T, d *datadriven.TestData, vals []string) (r Range) {
	_, err := fmt.Sscan(strings.Join(vals, " "), &r.Min, &r.Max)
	require.NoError(t, err, d.Pos)
	return r
}

func parseTime(t *testing.T, d *datadriven.TestData, text string) time.Time {
	after, err := time.ParseDuration(text)
	require.NoError(t, err, d.Pos)
	return start.Add(after)
}

// The files read aloud; -rewrite makes them again. Each event is played in each
// state in one of them.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	seen := map[pair]bool{}
	for _, f := range files {
		s := &transcript{seen: seen}
		datadriven.RunTest(t, f, s.play)
	}
	for state := range State(len(stateNames)) {
		for kind := range kinds {
			if !seen[pair{state, kind}] {
				t.Errorf("no transcript has the event %s of a tenant that is %s", kind, state)
			}
		}
	}
}

func TestDrawingHasEachState(t *testing.T) {
	b, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	for _, s := range stateNames {
		require.Contains(t, string(b), "| "+s+" ")
	}
}

func TestNext_KeepsInvariants(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		var tenant Tenant
		now := start
		for range 50 {
			now = now.Add(time.Duration(rnd.IntN(30)) * time.Second)
			e := Event{
				Kind: Kind(rnd.IntN(int(kinds))), Now: now, NotReady: rnd.IntN(8) == 0, Epoch: tenant.Epoch - rnd.IntN(6)/5,
				Range: Range{int64(rnd.IntN(10)), int64(rnd.IntN(10))}, Tenants: rnd.IntN(4), MaxTenants: rnd.IntN(4),
				Err: errors.New("broken"),
			}
			next, effects := tenant.Next(e)
			checkInvariants(t, tenant, next, e, effects)
			if t.Failed() {
				t.Fatalf("%s, event %s: %s", describe(tenant), e.Kind, describe(next))
			}
			tenant = next
		}
	}
}

func checkInvariants(t *testing.T, before, after Tenant, e Event, effects []Effect) {
	t.Helper()
	var action []Do
	for _, f := range effects {
		if f.Do != Log {
			action = append(action, f.Do)
		}
	}
	is := func(d Do) bool { return len(action) == 1 && action[0] == d }
	result := e.Kind >= Opened
	check := func(ok bool, text string) {
		if !ok {
			t.Error(text)
		}
	}
	check(len(action) <= 1, "at most one effect is not a log line")
	check(!before.Busy() || result || after == withMetadata(before, after), "only its result ends what is being carried out")
	check(!is(Unexpected) || after == before, "an event that cannot occur changes nothing")
	check(!is(Serve) || before.State == Open, "only an open tenant serves")
	check(is(OpenTSDB) == (after.State == Opening && before.State != Opening), "opening is entered with its effect")
	check(is(OpenTSDB) == (after.Epoch > before.Epoch), "each opening is an epoch")
	check(!is(CloseTSDB) || before.State == Open && after.State == Closing, "only an open tenant is closed")
	check(!is(RemoveDirectory) || after.State == Closing && after.Purpose == ForRemoval && after.Extent == Within,
		"a directory is deleted only while the tenant is closing and its samples are known")
	check(after.State != Idle || after.Extent == Within, "what an idle tenant has is known")
	check(after.State != Open || after.Extent == NoSamples && after.Failures == 0, "an open tenant forgets what it was before")
	check(after.State != Failed || after.Failures > 0 && after.Err != nil, "a failed tenant has an error")
	check(!is(Wait) || before.Busy() && after == before, "a wait is for something")
	check(!(is(OpenTSDB) && e.NotReady && e.Kind != Found), "a node that is not ready opens only what it finds")
	lost := before.Extent != NoSamples && after.State == Absent
	check(!lost || e.Kind == Removed || e.Kind == Shutdown, "samples on the disk are forgotten only with the directory")
}

// withMetadata is before with the metadata of after.
func withMetadata(before, after Tenant) Tenant {
	before.Described = after.Described
	return before
}
