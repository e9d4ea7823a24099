package storeapi

import "github.com/prometheus/prometheus/model/labels"

// loserTree finds the smallest of many sorted inputs with one comparison per
// level for each step. Node 0 holds the winner, nodes 1..n-1 the losers of the
// matches; leaf i of the tree is input i.
type loserTree struct {
	keys  []labels.Labels
	alive []bool
	nodes []int
	order Order
}

// newLoserTree takes the first key of every input; alive[i] is false for an
// input that has none.
func newLoserTree(keys []labels.Labels, alive []bool, order Order) *loserTree {
	t := &loserTree{keys: keys, alive: alive, nodes: make([]int, max(len(keys), 1)), order: order}
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
	a, b := t.play(2*node), t.play(2*node+1)
	if t.less(b, a) {
		a, b = b, a
	}
	t.nodes[node] = b
	return a
}

// less orders exhausted inputs last and breaks ties by input, so that the
// result does not depend on the shape of the tree.
func (t *loserTree) less(a, b int) bool {
	if !t.alive[a] || !t.alive[b] {
		return t.alive[a]
	}
	if c := t.order.Compare(t.keys[a], t.keys[b]); c != 0 {
		return c < 0
	}
	return a < b
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
	t.keys[w], t.alive[w] = key, alive
	for node := (w + len(t.keys)) / 2; node > 0; node /= 2 {
		if t.less(t.nodes[node], w) {
			t.nodes[node], w = w, t.nodes[node]
		}
	}
	t.nodes[0] = w
}
