package hashring

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// sectionsPerNode is how many points each member has on a ketama ring. It is
// part of the placement contract.
const sectionsPerNode = 1000

// Ring places the series of a tenant. It is immutable.
type Ring struct {
	name      string
	endpoints []Endpoint
	// sets are the distinct ordered replica sets, as indexes of endpoints.
	sets [][]int

	// Ketama: the sections in order of their hashes, and the set of each.
	// starts narrows the search: the first section whose hash has at least the
	// given leading bits.
	hashes []uint64
	setOf  []uint32
	starts []uint32
	shift  uint

	mod bool
}

// Name returns the name in the hashring file.
func (r *Ring) Name() string { return r.name }

// Endpoints returns the members. Callers must not change the slice.
func (r *Ring) Endpoints() []Endpoint { return r.endpoints }

// Sets returns the number of distinct replica sets.
func (r *Ring) Sets() int { return len(r.sets) }

// Set returns the members of a replica set, in order of replica number, as
// indexes of Endpoints. Callers must not change the slice.
func (r *Ring) Set(id int) []int { return r.sets[id] }

// Lookup returns the replica set of a series hash.
func (r *Ring) Lookup(hash uint64) int {
	if r.mod {
		return int(hash % uint64(len(r.endpoints)))
	}
	i := int(r.starts[hash>>r.shift])
	for i < len(r.hashes) && r.hashes[i] < hash {
		i++
	}
	if i == len(r.hashes) {
		i = 0
	}
	return int(r.setOf[i])
}

// Share returns the part of the hash space that each member stores as its first
// replica, in the order of Endpoints; the sum is 1.
func (r *Ring) Share() []float64 {
	out := make([]float64, len(r.endpoints))
	if r.mod {
		for i := range out {
			out[i] = 1 / float64(len(out))
		}
		return out
	}
	previous := r.hashes[len(r.hashes)-1]
	for i, h := range r.hashes {
		out[r.sets[r.setOf[i]][0]] += float64(h-previous) / (1 << 64)
		previous = h
	}
	return out
}

// newRing makes a ring of the endpoints with so many replicas.
func newRing(name string, algorithm Algorithm, endpoints []Endpoint, replicas int) (*Ring, error) {
	if replicas > len(endpoints) {
		return nil, fmt.Errorf("hashring %q has %d endpoints, fewer than the replication factor %d", name, len(endpoints), replicas)
	}
	if algorithm == Ketama {
		return newKetama(name, endpoints, replicas), nil
	}
	return newHashmod(name, endpoints, replicas)
}

func newHashmod(name string, endpoints []Endpoint, replicas int) (*Ring, error) {
	endpoints = slices.Clone(endpoints)
	slices.SortFunc(endpoints, func(a, b Endpoint) int { return cmp.Compare(a.Address, b.Address) })
	r := &Ring{name: name, endpoints: endpoints, mod: true}
	for i, e := range endpoints {
		if e.AZ != "" {
			return nil, fmt.Errorf("hashring %q: endpoint %s has a zone, which the algorithm hashmod cannot respect; use ketama", name, e.Address)
		}
		set := make([]int, replicas)
		for n := range set {
			set[n] = (i + n) % len(endpoints)
		}
		r.sets = append(r.sets, set)
	}
	return r, nil
}

// section is one point on a ketama ring.
type section struct {
	hash     uint64
	endpoint int
}

func sectionsOf(endpoints []Endpoint) []section {
	out := make([]section, 0, sectionsPerNode*len(endpoints))
	var buf []byte
	for e := range endpoints {
		for i := 1; i <= sectionsPerNode; i++ {
			buf = append(append(buf[:0], endpoints[e].Address...), ':')
			buf = strconv.AppendInt(buf, int64(i), 10)
			out = append(out, section{xxhash.Sum64(buf), e})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].hash < out[j].hash })
	return out
}

func newKetama(name string, endpoints []Endpoint, replicas int) *Ring {
	sections := sectionsOf(endpoints)
	r := &Ring{
		name: name, endpoints: slices.Clone(endpoints),
		hashes: make([]uint64, len(sections)),
		setOf:  make([]uint32, len(sections)),
	}
	ids := map[string]uint32{}
	w := newWalker(endpoints, sections)
	for i, s := range sections {
		set := w.replicas(i, replicas)
		key := fmt.Sprint(set)
		id, ok := ids[key]
		if !ok {
			id = uint32(len(r.sets))
			ids[key] = id
			r.sets = append(r.sets, set)
		}
		r.hashes[i], r.setOf[i] = s.hash, id
	}
	r.index()
	return r
}

// index builds starts with about two slots for a section, so that a lookup
// touches one slot and one or two hashes.
func (r *Ring) index() {
	width := bits.Len(uint(2 * len(r.hashes)))
	r.shift = uint(64 - width)
	r.starts = make([]uint32, 1<<width)
	i := 0
	for slot := range r.starts {
		for i < len(r.hashes) && r.hashes[i] < uint64(slot)<<r.shift {
			i++
		}
		r.starts[slot] = uint32(i)
	}
}

// walker finds the replicas of sections.
type walker struct {
	endpoints []Endpoint
	sections  []section
	zones     []string
}

func newWalker(endpoints []Endpoint, sections []section) *walker {
	w := &walker{endpoints: endpoints, sections: sections}
	for _, e := range endpoints {
		if !slices.Contains(w.zones, e.AZ) {
			w.zones = append(w.zones, e.AZ)
		}
	}
	return w
}

// replicas walks from section i and takes members that are not taken yet. With
// several zones, a member is passed over while its zone has a replica already
// and more than the least used zone. Where the zones are too uneven to go on
// like that, the rule is dropped for the rest.
func (w *walker) replicas(i, n int) []int {
	out := make([]int, 0, n)
	spread := make(map[string]int, len(w.zones))
	strict := len(w.zones) > 1
	for steps := 0; len(out) < n; i, steps = i+1, steps+1 {
		if strict && steps > len(w.sections) {
			strict, steps = false, 0
		}
		e := w.sections[i%len(w.sections)].endpoint
		if slices.Contains(out, e) {
			continue
		}
		zone := w.endpoints[e].AZ
		if strict && spread[zone] > 0 && spread[zone] > w.least(spread) {
			continue
		}
		out = append(out, e)
		spread[zone]++
		if strict {
			steps = 0
		}
	}
	return out
}

func (w *walker) least(spread map[string]int) int {
	least := spread[w.zones[0]]
	for _, z := range w.zones {
		least = min(least, spread[z])
	}
	return least
}
