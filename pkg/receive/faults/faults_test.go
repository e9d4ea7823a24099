package faults

import (
	"math/rand"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// load writes with several clients while f runs, and returns the acknowledged samples.
func load(t *testing.T, targets func() []string, f func()) *client {
	c := &client{acked: map[point]bool{}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for id := range clients {
		wg.Go(func() { c.run(t, id, stop, targets) })
	}
	f()
	close(stop)
	wg.Wait()
	require.Empty(t, c.refused, "nothing was refused for good")
	require.Greater(t, len(c.acked), 1000)
	t.Logf("%d samples acknowledged, the slowest batch took %s", len(c.acked), c.slowest)
	return c
}

func writeAddresses(nodes []*node) func() []string {
	return func() (out []string) {
		for _, n := range nodes {
			out = append(out, n.write)
		}
		return out
	}
}

// Nodes are killed without warning, one after the other, under load. Every
// acknowledged sample is on a quorum of them at once and for ever, and a node
// gets the hints of the others when it is back. Only writes that a killed node had not
// yet forwarded beyond the quorum have a copy less.
func TestKillAnyNode_KeepsAcknowledgedSamples(t *testing.T) {
	nodes := startNodes(t, 3, 3)
	rnd := rand.New(rand.NewSource(1))
	const kills = 5
	c := load(t, writeAddresses(nodes), func() {
		for range kills {
			n := nodes[rnd.Intn(3)]
			time.Sleep(time.Duration(300+rnd.Intn(700)) * time.Millisecond)
			n.end(syscall.SIGKILL)
			time.Sleep(time.Duration(rnd.Intn(700)) * time.Millisecond)
			n.start()
			n.ready()
		}
	})
	require.Eventually(t, func() bool {
		copies := c.copies(t, nodes)
		t.Log("samples by number of copies:", copies)
		require.Zero(t, copies[0]+copies[1])
		return copies[2] <= kills*clients*batchSize
	}, time.Minute, 500*time.Millisecond)
}

// A rolling restart, as a StatefulSet does it.
func TestRollingRestart_KeepsAcknowledgedSamples(t *testing.T) {
	nodes := startNodes(t, 3, 3)
	c := load(t, writeAddresses(nodes), func() {
		for _, n := range nodes {
			time.Sleep(300 * time.Millisecond)
			n.end(syscall.SIGTERM)
			n.start()
			n.ready()
		}
	})
	require.Zero(t, c.copies(t, nodes)[0])
	require.Eventually(t, func() bool { return c.copies(t, nodes)[3] == len(c.acked) }, time.Minute, 500*time.Millisecond)
}

func TestStoppedNode_CatchesUp(t *testing.T) {
	nodes := startNodes(t, 3, 3)
	c := load(t, writeAddresses(nodes[:2]), func() {
		time.Sleep(300 * time.Millisecond)
		nodes[2].signal(syscall.SIGSTOP)
		time.Sleep(8 * time.Second)
		nodes[2].signal(syscall.SIGCONT)
		time.Sleep(time.Second)
	})
	require.Eventually(t, func() bool {
		copies := c.copies(t, nodes)
		t.Log("samples by number of copies:", copies)
		return copies[3] == len(c.acked)
	}, time.Minute, 500*time.Millisecond)
}

// The ring grows from three nodes to five and shrinks again under load.
func TestRingChanges_KeepAcknowledgedSamples(t *testing.T) {
	nodes := startNodes(t, 5, 3)
	c := load(t, writeAddresses(nodes), func() {
		time.Sleep(500 * time.Millisecond)
		writeRing(t, nodes[0].ring, nodes)
		time.Sleep(1500 * time.Millisecond)
		writeRing(t, nodes[0].ring, nodes[2:])
		time.Sleep(1500 * time.Millisecond)
		writeRing(t, nodes[0].ring, nodes[:3])
		time.Sleep(500 * time.Millisecond)
	})
	require.Eventually(t, func() bool {
		copies := c.copies(t, nodes)
		t.Log("samples by number of copies:", copies)
		require.Zero(t, copies[0])
		return copies[1] == 0
	}, time.Minute, 500*time.Millisecond)
}
