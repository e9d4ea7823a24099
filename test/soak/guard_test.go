package main

import (
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

func id(n byte) ulid.ULID { return ulid.ULID{15: n} }

func metaOf(n byte, mint, maxt int64, sources ...byte) *block.Meta {
	m := &block.Meta{}
	m.ULID, m.MinTime, m.MaxTime = id(n), mint, maxt
	m.Thanos.Labels = map[string]string{"tenant_id": "red"}
	for _, s := range sources {
		m.Compaction.Sources = append(m.Compaction.Sources, id(s))
	}
	return m
}

// watched is a guard that has seen blocks 1 and 2 of receivers, and 3 made of them.
func watched(wait time.Duration) *guard {
	g := newGuard(wait)
	for _, m := range []*block.Meta{metaOf(1, 0, 10, 1), metaOf(2, 10, 20, 2), metaOf(3, 0, 20, 1, 2)} {
		g.see(event{client: "receive-1", put: true, key: m.ULID.String() + "/index"}, nil)
		g.see(event{client: "receive-1", put: true, key: m.ULID.String() + "/meta.json"}, m)
	}
	return g
}

func mark(g *guard, n byte) {
	g.see(event{client: "compact-1", put: true, key: id(n).String() + "/deletion-mark.json", at: time.Now()}, nil)
}

func TestGuard_CountsFromTheLookForTheMark(t *testing.T) {
	g := watched(time.Minute)
	g.see(event{client: "compact-1", get: true, key: id(1).String() + "/deletion-mark.json", at: time.Now().Add(-20 * time.Second)}, nil)
	mark(g, 1)
	remove(g, 1, 45*time.Second)
	require.NoError(t, g.violation())
}

func remove(g *guard, n byte, after time.Duration) {
	g.see(event{client: "compact-1", key: id(n).String() + "/meta.json", at: time.Now().Add(after)}, nil)
}

func TestGuard_AllowsDeletionAfterTheDelay(t *testing.T) {
	g := watched(time.Minute)
	mark(g, 1)
	remove(g, 1, time.Minute)
	require.NoError(t, g.violation())
	live, all := g.visible()
	require.Len(t, live, 2)
	require.Len(t, all, 2)
}

func TestGuard_RefusesDeletions(t *testing.T) {
	for name, c := range map[string]struct {
		do  func(g *guard)
		err string
	}{
		"without a mark":   {func(g *guard) { remove(g, 1, time.Hour) }, "without a deletion mark"},
		"before the delay": {func(g *guard) { mark(g, 1); remove(g, 1, 30*time.Second) }, "before the delay"},
		"of the only copy": {func(g *guard) { mark(g, 3); remove(g, 3, time.Hour); mark(g, 1); remove(g, 1, time.Hour) }, "no other block"},
		"of the result":    {func(g *guard) { mark(g, 3); remove(g, 3, time.Hour) }, "no other block"},
		"of foreign uploads": {func(g *guard) {
			g.see(event{client: "receive-2", put: true, key: id(9).String() + "/index"}, nil)
			remove(g, 9, 0)
		}, "unfinished upload"},
		"after the mark went": {func(g *guard) {
			mark(g, 1)
			g.see(event{client: "x", key: id(1).String() + "/deletion-mark.json"}, nil)
			remove(g, 1, time.Hour)
		}, "without a deletion mark"},
	} {
		t.Run(name, func(t *testing.T) {
			g := watched(time.Minute)
			c.do(g)
			require.ErrorContains(t, g.violation(), c.err)
		})
	}
}
