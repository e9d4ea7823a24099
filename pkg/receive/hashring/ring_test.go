package hashring

import (
	"fmt"
	"math/rand"
	"sort"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"
)

type point struct {
	hash uint64
	e    Endpoint
}

// points are all sections of a ring, in order.
func points(endpoints []Endpoint) (ring []point) {
	for _, e := range endpoints {
		for i := 1; i <= 1000; i++ {
			ring = append(ring, point{xxhash.Sum64String(fmt.Sprintf("%s:%d", e.Address, i)), e})
		}
	}
	sort.SliceStable(ring, func(i, j int) bool { return ring[i].hash < ring[j].hash })
	return ring
}

// naive places a series by the contract alone, without the tables of Ring.
func naive(ring []point, endpoints []Endpoint, replicas int, hash uint64) []string {
	at := 0
	for i := range ring {
		if ring[i].hash >= hash {
			at = i
			break
		}
	}
	zones := map[string]int{}
	for _, e := range endpoints {
		zones[e.AZ] = 0
	}
	var out []string
	for i := at; len(out) < replicas; i++ {
		p := ring[i%len(ring)]
		if strings.Contains(" "+strings.Join(out, " ")+" ", " "+p.e.Address+" ") {
			continue
		}
		least := 1 << 30
		for _, n := range zones {
			least = min(least, n)
		}
		if len(zones) > 1 && zones[p.e.AZ] > 0 && zones[p.e.AZ] > least {
			continue
		}
		out = append(out, p.e.Address)
		zones[p.e.AZ]++
	}
	return out
}

func members(n, zones int) []Endpoint {
	var out []Endpoint
	for i := range n {
		e := Endpoint{Address: fmt.Sprintf("receive-%d.receive:10901", i)}
		if zones > 0 {
			e.AZ = fmt.Sprintf("az-%d", i%zones)
		}
		out = append(out, e)
	}
	return out
}

func TestRing_PlacesLikeNaiveKetama(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	for _, c := range []struct{ nodes, zones, replicas int }{
		{1, 0, 1}, {3, 0, 1}, {3, 0, 3}, {5, 0, 3}, {10, 0, 3}, {3, 3, 3}, {6, 3, 3}, {6, 2, 3}, {9, 3, 2}, {7, 3, 5},
	} {
		endpoints := members(c.nodes, c.zones)
		ring, err := newRing("r", Ketama, endpoints, c.replicas)
		require.NoError(t, err)
		hashes := []uint64{0, 1, 1<<64 - 1, 1 << 63}
		for range 100 {
			hashes = append(hashes, rnd.Uint64())
		}
		hashes = append(hashes, ring.hashes[0], ring.hashes[0]+1, ring.hashes[len(ring.hashes)-1], ring.hashes[len(ring.hashes)-1]+1)
		all := points(endpoints)
		for _, h := range hashes {
			var got []string
			for _, e := range ring.Set(ring.Lookup(h)) {
				got = append(got, ring.Endpoints()[e].Address)
			}
			require.Equal(t, naive(all, endpoints, c.replicas, h), got, "%+v hash %d", c, h)
		}
	}
}

func TestRing_AcceptsUnevenZones(t *testing.T) {
	endpoints := members(6, 0)
	for i := range endpoints {
		endpoints[i].AZ = "b"
	}
	endpoints[0].AZ = "a"
	ring, err := newRing("r", Ketama, endpoints, 4)
	require.NoError(t, err)
	for i := range ring.Sets() {
		require.Len(t, ring.Set(i), 4)
		require.Contains(t, ring.Set(i), 0)
	}
}

func TestRing_SharesSumToOne(t *testing.T) {
	for _, a := range []Algorithm{Ketama, Hashmod} {
		ring, err := newRing("r", a, members(5, 0), 3)
		require.NoError(t, err)
		sum := 0.0
		for _, s := range ring.Share() {
			sum += s
			require.InDelta(t, 0.2, s, 0.03)
		}
		require.InDelta(t, 1, sum, 1e-9)
	}
}

func TestHashmod(t *testing.T) {
	ring, err := newRing("r", Hashmod, []Endpoint{{Address: "c"}, {Address: "a"}, {Address: "b"}}, 2)
	require.NoError(t, err)
	for h, want := range map[uint64]string{0: "ab", 1: "bc", 2: "ca", 5: "ca"} {
		got := ""
		for _, e := range ring.Set(ring.Lookup(h)) {
			got += ring.Endpoints()[e].Address
		}
		require.Equal(t, want, got)
	}
	_, err = newRing("r", Hashmod, members(3, 3), 1)
	require.ErrorContains(t, err, "zone")
	_, err = newRing("r", Hashmod, members(2, 0), 3)
	require.ErrorContains(t, err, "fewer than the replication factor 3")
}

func TestParse(t *testing.T) {
	specs, err := Parse([]byte(`[
	  {"hashring": "special", "tenants": ["a", "b"], "external_labels": {"x": "1"}, "endpoints": ["n1:10901"]},
	  {"hashring": "globs", "tenants": ["team-*"], "tenant_matcher_type": "glob", "algorithm": "ketama",
	   "endpoints": [{"address": "n2:10901", "az": "z1"}, {"address": "n3:10901", "az": "z2", "capnproto_address": "n3:1"}]},
	  {"endpoints": ["n4:10901", "n5:10901"], "algorithm": "ketama",
	   "shuffle_sharding_config": {"shard_size": 1, "overrides": [
	      {"shard_size": 2, "tenants": ["big"], "tenant_matcher_type": "exact"},
	      {"shard_size": 2, "tenants": ["never"]}]}}
	]`))
	require.NoError(t, err)
	require.Equal(t, "n1:19391", specs[0].Endpoints[0].CapnProtoAddress)
	require.Equal(t, "n3:1", specs[1].Endpoints[1].CapnProtoAddress)
	require.True(t, specs[1].Endpoints[1].Is("n3:1"))
	require.Equal(t, map[string]string{"x": "1"}, ExternalLabels(specs, "a"))
	require.Empty(t, ExternalLabels(specs, "team-x"))
	require.Equal(t, []string{"n1:10901", "n2:10901", "n3:10901", "n4:10901", "n5:10901"}, Addresses(specs))

	rings, err := New(specs, Options{Algorithm: Hashmod, Replicas: 1})
	require.NoError(t, err)
	check := func(tenant, name string, size int) {
		t.Helper()
		ring, err := rings.For(tenant)
		require.NoError(t, err)
		require.Equal(t, name, ring.Name())
		require.Len(t, ring.Endpoints(), size)
		again, err := rings.For(tenant)
		require.NoError(t, err)
		require.Same(t, ring, again)
	}
	check("a", "special", 1)
	check("team-1", "globs", 2)
	check("other", "", 1)
	check("big", "", 2)
	check("never", "", 1)

	_, err = New(specs[:1], Options{Replicas: 1})
	require.NoError(t, err)
	only, err := New(specs[:1], Options{Replicas: 1})
	require.NoError(t, err)
	_, err = only.For("zzz")
	require.ErrorContains(t, err, "no hashring serves")
}

func TestParseErrors(t *testing.T) {
	for content, want := range map[string]string{
		"":                                "empty",
		"[]":                              "no hashring",
		"[\n{\"endpoints\": [}]":          "line 2",
		`[{"endpoints": []}]`:             "no endpoints",
		`[{"endpoints": [{"az": "x"}]}]`:  "no address",
		`[{"endpoints": ["a:1", "a:1"]}]`: "listed twice",
		`[{"endpoints": ["a:1"], "tenants": ["["], "tenant_matcher_type": "glob"}]`: "pattern",
		`[{"endpoints": ["a:1"], "tenant_matcher_type": "regex"}]`:                  "exact or glob",
	} {
		_, err := Parse([]byte(content))
		require.ErrorContains(t, err, want)
	}
}

func TestShuffleIsStableAndSpread(t *testing.T) {
	specs := []Spec{{Endpoints: members(9, 3), Algorithm: Ketama, Shuffle: Shuffle{Size: 5}}}
	rings, err := New(specs, Options{Replicas: 3})
	require.NoError(t, err)
	others, err := New(specs, Options{Replicas: 3})
	require.NoError(t, err)
	seen := map[string]bool{}
	for i := range 30 {
		ring, err := rings.For(fmt.Sprintf("tenant-%d", i))
		require.NoError(t, err)
		require.Len(t, ring.Endpoints(), 6) // ceil(5/3) of each of 3 zones
		zones := map[string]int{}
		key := ""
		for _, e := range ring.Endpoints() {
			zones[e.AZ]++
			key += e.Address
		}
		require.Equal(t, map[string]int{"az-0": 2, "az-1": 2, "az-2": 2}, zones)
		seen[key] = true
		again, err := others.For(fmt.Sprintf("tenant-%d", i))
		require.NoError(t, err)
		require.Equal(t, ring.Endpoints(), again.Endpoints())
	}
	require.Greater(t, len(seen), 10)
}

func TestGrowingMovesLittle(t *testing.T) {
	before, err := newRing("r", Ketama, members(5, 0), 1)
	require.NoError(t, err)
	after, err := newRing("r", Ketama, members(6, 0), 1)
	require.NoError(t, err)
	rnd, moved := rand.New(rand.NewSource(1)), 0
	for range 10_000 {
		h := rnd.Uint64()
		if before.Set(before.Lookup(h))[0] != after.Set(after.Lookup(h))[0] {
			moved++
		}
	}
	require.InDelta(t, 10_000/6, moved, 400)
}

func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{3, 30} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ring, err := newRing("r", Ketama, members(n, 0), 3)
			require.NoError(b, err)
			h, sum := uint64(1), 0
			for b.Loop() {
				h = h*6364136223846793005 + 1442695040888963407
				sum += ring.Lookup(h)
			}
			_ = sum
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"hashring":"a","endpoints":["x:1",{"address":"y:1","az":"z"}],"algorithm":"ketama"}]`))
	f.Fuzz(func(t *testing.T, content []byte) {
		specs, err := Parse(content)
		if err != nil || len(Addresses(specs)) > 8 {
			return
		}
		rings, err := New(specs, Options{Replicas: 2})
		if err != nil {
			return
		}
		if ring, err := rings.For("t"); err == nil {
			require.Len(t, ring.Set(ring.Lookup(12345)), 2)
		}
	})
}
