package faults

import (
	"fmt"
	"maps"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// soak is a cluster to which faults happen, one at a time.
type soak struct {
	t     *testing.T
	rnd   *rand.Rand
	nodes []*node
	// quorum is how many copies an acknowledged sample has at least.
	quorum int
	end    time.Time

	mu   sync.Mutex
	away *node // gets no writes from clients
}

// targets are the nodes that clients may write to: a Prometheus is not sent to a
// node that does not answer.
func (s *soak) targets() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		if n != s.away {
			out = append(out, n.write)
		}
	}
	return out
}

func (s *soak) setAway(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = n
}

// pause waits for a random time.
func (s *soak) pause(most time.Duration) { time.Sleep(time.Duration(s.rnd.Int63n(int64(most)))) }

// fault causes one fault and ends it, and returns its name.
func (s *soak) fault(kinds int) string {
	n := s.nodes[s.rnd.Intn(len(s.nodes))]
	if len(s.nodes) > 1 && s.rnd.Intn(2) == 0 { // some clients have the old addresses
		s.setAway(n)
	}
	defer s.setAway(nil)
	switch kind := s.rnd.Intn(kinds); kind {
	case 0, 1:
		sig := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[kind]
		n.end(sig)
		s.pause(4 * time.Second)
		n.start()
		n.ready()
		return fmt.Sprintf("%s of %s", sig, n.grpc)
	case 2:
		n.signal(syscall.SIGSTOP)
		if len(s.nodes) > 1 {
			s.setAway(n)
		}
		s.pause(8 * time.Second)
		n.signal(syscall.SIGCONT)
		return "a stop of " + n.grpc
	case 3:
		n.end(syscall.SIGKILL) // and again, while it reads its log
		n.start()
		s.pause(300 * time.Millisecond)
		n.end(syscall.SIGKILL)
		n.start()
		n.ready()
		return "two kills of " + n.grpc
	default:
		order := s.rnd.Perm(len(s.nodes))[:3+s.rnd.Intn(len(s.nodes)-2)]
		var ring []*node
		for _, i := range order {
			ring = append(ring, s.nodes[i])
		}
		writeRing(s.t, n.ring, ring)
		s.pause(3 * time.Second)
		return fmt.Sprintf("a ring of %d", len(ring))
	}
}

// check says that every acknowledged sample has a quorum of copies.
func (s *soak) check(c *client) {
	acked := c.snapshot()
	copies := acked.copies(s.t, s.nodes)
	s.t.Log("samples by number of copies:", copies)
	few := 0
	for n := range s.quorum {
		few += copies[n]
	}
	if few > 0 {
		s.describe(acked, s.quorum)
	}
	require.Zero(s.t, few, "acknowledged samples without a quorum of copies")
}

// describe logs where the samples are that have fewer copies, by kind and second.
func (s *soak) describe(c *client, wanted int) {
	var have []map[point]bool
	for _, n := range s.nodes {
		have = append(have, stored(s.t, n))
	}
	groups := map[string]int{}
	for p := range c.acked {
		at := ""
		for i, h := range have {
			if h[p] {
				at += " " + s.nodes[i].grpc
			}
		}
		if strings.Count(at, " ") < wanted {
			kind, _, _ := strings.Cut(strings.TrimPrefix(p.series, "s_"), "_")
			if kind != "late" {
				kind = "in order"
			}
			groups[fmt.Sprintf("%s %s on%s", time.UnixMilli(p.t).UTC().Format("15:04:05"), kind, at)]++
		}
	}
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		s.t.Logf("%s: %d samples", g, groups[g])
	}
}

// TestSoakFaults lets faults happen for HINDSIGHT_SOAK_MINUTES, from the seed
// HINDSIGHT_SOAK_SEED on (0: by the clock), while blocks are cut all the time and
// clients write, some of them out-of-order samples. Whenever all nodes are up, each
// acknowledged sample is on a quorum of them.
func TestSoakFaults(t *testing.T) {
	s := newSoak(t)
	s.nodes, s.quorum = startNodes(t, 5, 3), 2
	s.run(5)
}

// TestSoakOneNode is TestSoakFaults with a single node: data that it loses
// is lost.
func TestSoakOneNode(t *testing.T) {
	s := newSoak(t)
	t.Setenv(copyVariable, "1")
	s.nodes, s.quorum = startNodes(t, 1, 1), 1
	s.run(4)
}

func newSoak(t *testing.T) *soak {
	minutes, err := strconv.Atoi(os.Getenv("HINDSIGHT_SOAK_MINUTES"))
	if err != nil || minutes <= 0 {
		t.Skip("HINDSIGHT_SOAK_MINUTES is not set")
	}
	seed, err := strconv.ParseInt(os.Getenv("HINDSIGHT_SOAK_SEED"), 10, 64)
	if err != nil || seed == 0 {
		seed = time.Now().UnixNano()
	}
	t.Log("seed", seed)
	t.Setenv(blockVariable, "20s")
	return &soak{t: t, rnd: rand.New(rand.NewSource(seed)), end: time.Now().Add(time.Duration(minutes) * time.Minute)}
}

// run lets faults of the first kinds happen until the end.
func (s *soak) run(kinds int) {
	c := &client{acked: map[point]bool{}, pause: 100 * time.Millisecond, late: 15 * time.Second}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() { c.run(s.t, id, stop, s.targets) })
	}
	settle := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer settle()
	for round := 1; time.Now().Before(s.end); round++ {
		began := time.Now()
		s.t.Logf("%d: %s from %s to %s", round, s.fault(kinds), began.UTC().Format("15:04:05.0"), time.Now().UTC().Format("15:04:05.0"))
		s.pause(5 * time.Second)
		if round%5 == 0 {
			s.check(c)
		}
	}
	settle()
	require.Empty(s.t, c.refused, "nothing was refused for good")
	time.Sleep(10 * time.Second) // for the delivery of hints
	s.check(c)
	s.t.Logf("%d samples acknowledged, the slowest batch took %s", len(c.acked), c.slowest)
}
