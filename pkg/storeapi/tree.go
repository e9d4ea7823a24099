package storeapi

import "github.com/prometheus/prometheus/model/labels"

// loserTree finds the smallest of many sorted inputs with one match per level for each
// step. Node 0 holds the winner, nodes 1..n-1 the losers of the matches; leaf i of the
// tree is input i. Matches of keys that are known to be equal compare nothing: blocks of
// one source have the same series in the same order.
type loserTree struct {
	keys  []labels.Labels
	alive []bool
	nodes []int
	// tied says of each node that the loser has the key of the winner of its match.
	tied  []bool
	order Order
	// same says that the winner has the key that the one before it had.
	same bool
}

// newLoserTree takes the first key of every input; alive[i] is false for an
// input that has none.
func newLoserTree(keys []labels.Labels, alive []bool, order Order) *loserTree {
	n := max(len(keys), 1)
	t := &loserTree{keys: keys, alive: alive, nodes: make([]int, n), tied: make([]bool, n), order: order}
	if len(keys) > 0 {
		t.nodes[0] = t.play(1)
	}
	return t
}

// play fills the subtree at node and returns its winner.
func (t *loserTree) play(node int) int {
	if n := len(t.keys); node >= n {
		return node - n
	}
	t.nodes[node] = t.play(2*node + 1)
	return t.match(node, t.play(2*node))
}

// match plays a against the loser at node, and returns the winner. It orders exhausted
// inputs last and breaks ties by input, so that the result does not depend on the shape
// of the tree.
func (t *loserTree) match(node, a int) int {
	b, wins := t.nodes[node], false // b wins
	t.tied[node] = false
	switch {
	case !t.alive[a] || !t.alive[b]:
		wins = t.alive[b] && !t.alive[a]
	default:
		c := t.order.Compare(t.keys[b], t.keys[a])
		t.tied[node] = c == 0
		wins = c < 0 || c == 0 && b < a
	}
	if !wins {
		return a
	}
	t.nodes[node] = a
	return b
}

// winner returns the input with the smallest key; ok is false when all are
// exhausted.
func (t *loserTree) winner() (i int, ok bool) {
	if len(t.keys) == 0 {
		return 0, false
	}
	return t.nodes[0], t.alive[t.nodes[0]]
}

// replace gives the winner its next key, or marks it exhausted.
func (t *loserTree) replace(key labels.Labels, alive bool) {
	w := t.nodes[0]
	old := t.keys[w]
	t.keys[w], t.alive[w] = key, alive
	c := 1
	if alive {
		c = t.order.Compare(key, old)
	}
	if t.same = c == 0; t.same {
		return
	}
	if c < 0 { // not in order: nothing is known
		for node := (w + len(t.keys)) / 2; node > 0; node /= 2 {
			w = t.match(node, w)
		}
		t.nodes[0] = w
		t.same = labels.Equal(t.keys[w], old)
		return
	}
	t.nodes[0] = t.replay(w)
}

// replay plays the matches of w, whose key is greater than the one that it had. Losers that
// are tied have that one, and all others have greater ones.
func (t *loserTree) replay(w int) int {
	for node := (w + len(t.keys)) / 2; node > 0; node /= 2 {
		switch {
		case !t.tied[node]:
			if !t.same {
				w = t.match(node, w)
			}
		case !t.same:
			t.tied[node] = false
			t.nodes[node], w = w, t.nodes[node]
			t.same = true
		case t.nodes[node] < w:
			t.nodes[node], w = w, t.nodes[node]
		}
	}
	return w
}
