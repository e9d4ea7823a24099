package members

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

var (
	start = time.Unix(1_700_000_000, 0)
	conf  = Config{Replicas: 3, Timeout: 10 * time.Minute, Settle: 15 * time.Second}
)

func name(i int) string { return fmt.Sprintf("receive-%d.receive.monitoring.svc:10901", i) }

func list(ns ...int) (out []Found) {
	for _, n := range ns {
		out = append(out, Found{Address: name(n)})
	}
	return out
}

func addresses(ns ...int) (out []string) {
	for _, n := range ns {
		out = append(out, name(n))
	}
	return out
}

// ready are the answers of members that take writes.
func ready(ns ...int) map[string]Answer {
	out := map[string]Answer{}
	for _, n := range ns {
		out[name(n)] = Ready
	}
	return out
}

func formed(t *testing.T, ns ...int) *Set {
	s := New(conf, Saved{}, start)
	c := s.Observe(&Observation{Now: start, Found: list(ns...), Complete: true, Answers: ready(ns...)})
	require.Equal(t, addresses(ns...), c.Joined)
	return s
}

func TestFirstRing_WaitsForAllAndThenForAQuorumOnly(t *testing.T) {
	s := New(conf, Saved{}, start)
	at := func(after time.Duration, found []Found, a map[string]Answer) []string {
		s.Observe(&Observation{Now: start.Add(after), Found: found, Complete: true, Answers: a})
		return s.Ring()
	}
	require.Empty(t, at(0, nil, nil))
	require.Empty(t, at(time.Minute, list(0), ready(0)), "fewer than copies, for as long as it takes")
	require.Empty(t, at(2*time.Minute, list(0, 1), ready(0, 1)))
	// The time to settle is over: the first three that take writes form the ring.
	a := ready(2, 0, 1)
	a[name(3)] = Starting
	require.Equal(t, addresses(0, 1, 2), at(3*time.Minute, list(3, 2, 4, 1, 0), a))
	a[name(3)] = Ready
	require.Equal(t, addresses(0, 1, 2, 3), at(3*time.Minute, list(3, 2, 4, 1, 0), a))

	s = New(conf, Saved{}, start)
	require.Empty(t, at(0, list(0, 1, 2, 3), ready(0, 1, 2)), "the fourth may come within the time")
	require.Equal(t, addresses(0, 1, 2, 3), at(time.Second, list(0, 1, 2, 3), ready(0, 1, 2, 3)))

	// The API says how many pods there will be, before they exist.
	s = New(conf, Saved{}, start)
	o := &Observation{Now: start, Found: list(0, 1, 2), Complete: true, Answers: ready(0, 1, 2), Pods: map[string]int{"receive": 5}}
	require.True(t, s.Observe(o).Empty())
	o.Now = start.Add(conf.Settle)
	require.Equal(t, addresses(0, 1, 2), s.Observe(o).Joined)
}

func TestOrderOfDiscovery_DoesNotMatter(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	want := formed(t, 0, 1, 2, 3, 4).Ring()
	for range 20 {
		found := list(0, 1, 2, 3, 4)
		rnd.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
		s := New(conf, Saved{}, start)
		s.Observe(&Observation{Now: start, Found: found, Complete: true, Answers: ready(0, 1, 2, 3, 4)})
		require.Equal(t, want, s.Ring())
	}
}

func TestMemberThatDiscoveryForgets_StaysWhileItAnswersAndForTheTimeout(t *testing.T) {
	s := formed(t, 0, 1, 2, 3)
	now := start
	see := func(after time.Duration, o Observation) Change {
		now = now.Add(after)
		o.Now = now
		return s.Observe(&o)
	}
	require.Empty(t, see(time.Hour, Observation{Complete: true, Answers: ready(0, 1, 2, 3)}), "an empty answer of DNS")
	require.Empty(t, see(time.Hour, Observation{}), "DNS does not answer, and nobody else")
	require.Empty(t, see(conf.Timeout, Observation{Found: list(0, 1, 2), Complete: true}))
	c := see(time.Second, Observation{Found: list(0, 1, 2), Complete: true})
	require.Equal(t, []Departure{{name(3), reason.MemberLost}}, c.Left)
	require.Empty(t, see(time.Hour, Observation{Found: list(0, 1), Complete: true}), "a ring has at least as many members as copies")
	c = see(time.Second, Observation{Found: list(0, 1, 7), Complete: true, Answers: ready(7)})
	require.Equal(t, Change{Joined: addresses(7), Left: []Departure{{name(2), reason.MemberLost}}}, c, "a replacement comes first")
	require.Empty(t, see(time.Hour, Observation{Found: list(0, 1, 7), Complete: true}), "one that is found stays, though it does not answer")
}

func TestScaleDown_LeavesAtOnce(t *testing.T) {
	s := formed(t, 0, 1, 2, 3, 4)
	all := ready(0, 1, 2, 3, 4)
	pods := map[string]int{"receive": 5}
	require.Empty(t, s.Observe(&Observation{Now: start, Found: list(0, 1, 2, 3, 4), Complete: true, Answers: all, Pods: pods}))
	// A pod that the StatefulSet is to have stays for ever, though it is gone.
	require.Empty(t, s.Observe(&Observation{Now: start.Add(48 * time.Hour), Found: list(0, 1, 2, 3), Complete: true, Pods: pods}))
	pods["receive"] = 3
	c := s.Observe(&Observation{Now: start, Found: list(0, 1, 2, 3, 4), Complete: true, Answers: all, Pods: pods})
	require.Equal(t, []Departure{{name(4), reason.MemberScaledDown}, {name(3), reason.MemberScaledDown}}, c.Left)
	require.Empty(t, s.Observe(&Observation{Now: start, Found: list(0, 1, 2, 3, 4), Complete: true, Answers: all, Pods: pods}), "they do not come back")
	pods["receive"] = 0
	require.Empty(t, s.Observe(&Observation{Now: start, Complete: true, Pods: pods}))
	pods["receive"] = 4
	c = s.Observe(&Observation{Now: start, Found: list(0, 1, 2, 3), Complete: true, Answers: all, Pods: pods})
	require.Equal(t, addresses(3), c.Joined)
}

// Pods without a name in DNS are numbered by the names that the API gives.
func TestScaleDown_ByNameOfPod(t *testing.T) {
	s := New(Config{Replicas: 1, Timeout: time.Minute}, Saved{}, start)
	found := []Found{{"10.0.0.1:10901", "r-0"}, {"10.0.0.2:10901", "r-1"}}
	ready := map[string]Answer{"10.0.0.1:10901": Ready, "10.0.0.2:10901": Ready}
	s.Observe(&Observation{Now: start, Found: found, Complete: true, Answers: ready, Pods: map[string]int{"r": 2}})
	require.Len(t, s.Ring(), 2)
	o := &Observation{Now: start, Found: found[:1], Complete: true, Answers: ready, Pods: map[string]int{"r": 1}}
	require.True(t, s.Unwanted("10.0.0.2:10901", o))
	require.Equal(t, []Departure{{"10.0.0.2:10901", reason.MemberScaledDown}}, s.Observe(o).Left)
}

func TestMemberThatAnnouncesItsDeparture(t *testing.T) {
	s := formed(t, 0, 1, 2, 3)
	a := ready(0, 1, 2)
	a[name(3)] = Leaving
	o := &Observation{Now: start, Found: list(0, 1, 2, 3), Complete: true, Answers: a}
	require.Equal(t, []Departure{{name(3), reason.MemberLeaving}}, s.Observe(o).Left)
	require.Empty(t, s.Observe(o))
	a[name(3)] = Ready // it was told to stay
	require.Equal(t, addresses(3), s.Observe(o).Joined)
}

func TestRestart_KeepsTheRing(t *testing.T) {
	saved := formed(t, 0, 1, 2, 3, 4).Saved(start)
	now := start.Add(24 * time.Hour)
	s := New(conf, saved, now)
	require.Equal(t, addresses(0, 1, 2, 3, 4), s.Ring(), "before discovery has answered")
	require.Empty(t, s.Observe(&Observation{Now: now, Found: list(0, 1, 2), Complete: true}))
	// A long time has passed: those that are not there have a minute.
	c := s.Observe(&Observation{Now: now.Add(minGrace + time.Second), Found: list(0, 1, 2), Complete: true})
	require.Equal(t, []Departure{{name(4), reason.MemberLost}, {name(3), reason.MemberLost}}, c.Left)
	require.Equal(t, addresses(0, 1, 2), New(conf, Saved{Members: s.Ring(), Time: now.Add(time.Hour).Unix()}, now).Ring())
}

// After any observations the ring has at least as many members as copies, only members
// that were ready once, and the same on nodes that see the same.
func TestRandomObservations(t *testing.T) {
	for seed := range int64(50) {
		rnd := rand.New(rand.NewSource(seed))
		a, b := New(conf, Saved{}, start), New(conf, Saved{}, start)
		ready, now := map[string]bool{}, start
		for range 100 {
			now = now.Add(time.Duration(rnd.Intn(200)) * time.Second)
			o := &Observation{Now: now, Complete: rnd.Intn(4) > 0, Answers: map[string]Answer{}}
			for n := range 8 {
				if rnd.Intn(3) > 0 {
					o.Found = append(o.Found, list(n)...)
				}
				o.Answers[name(n)] = Answer(rnd.Intn(4))
				if o.Answers[name(n)] == Ready {
					ready[name(n)] = true
				}
			}
			if rnd.Intn(2) == 0 {
				o.Pods = map[string]int{"receive": rnd.Intn(9)}
			}
			before := a.Ring()
			c := a.Observe(o)
			slices.Reverse(o.Found)
			b.Observe(o)
			ring := a.Ring()
			require.Equal(t, ring, b.Ring())
			require.Equal(t, len(ring), len(before)+len(c.Joined)-len(c.Left))
			if len(ring) > 0 {
				require.GreaterOrEqual(t, len(ring), conf.Replicas)
			}
			for _, m := range ring {
				require.True(t, ready[m], "%s was never ready", m)
			}
		}
	}
}

func TestStatefulSet(t *testing.T) {
	for pod, want := range map[string]string{"receive-0": "receive 0", "a-b-12": "a-b 12", "receive-x7k2p": " -1", "receive-01": " -1", "-1": " -1", "10": " -1", "a--1": "a- 1"} {
		set, n := StatefulSet(pod)
		require.Equal(t, want, fmt.Sprint(set, " ", n), pod)
	}
}
