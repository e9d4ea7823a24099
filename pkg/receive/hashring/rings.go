package hashring

import (
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"sort"
	"sync"
)

// Options are the parts of the configuration that are not in the hashring file.
type Options struct {
	// Algorithm is used by elements that name none.
	Algorithm Algorithm
	// Replicas is the replication factor, at least 1.
	Replicas int
}

// Rings holds the rings of one version of the hashring file. It may be used
// concurrently.
type Rings struct {
	specs []Spec
	opts  Options
	base  []*Ring

	// shards are the rings of tenants that have a part of an element's ring, for
	// each element.
	shards []*shardCache

	mu     sync.RWMutex
	cached map[string]int // the elements of tenants
	most   int
}

// New builds the rings. It fails when a ring has fewer members than replicas,
// or a shard is larger than its ring: such a configuration cannot store anything.
func New(specs []Spec, opts Options) (*Rings, error) {
	r := &Rings{specs: specs, opts: opts, cached: map[string]int{}, most: 1000}
	for i := range specs {
		s := &specs[i]
		algorithm := r.algorithm(s)
		ring, err := newRing(s.Name, algorithm, s.Endpoints, opts.Replicas)
		if err != nil {
			return nil, err
		}
		if err := checkShards(s, algorithm, opts.Replicas); err != nil {
			return nil, fmt.Errorf("hashring %q: %w", s.Name, err)
		}
		r.base = append(r.base, ring)
		r.shards = append(r.shards, newShardCache(s.Shuffle.CacheSize))
	}
	return r, nil
}

// checkShards refuses shard sizes with which no tenant can write.
func checkShards(s *Spec, algorithm Algorithm, replicas int) error {
	if s.Shuffle.Size == 0 {
		return nil
	}
	sizes := []int{s.Shuffle.Size}
	for _, o := range s.Shuffle.Overrides {
		if o.MatcherType != "" {
			sizes = append(sizes, o.Size)
		}
	}
	for _, size := range sizes {
		if size <= 0 {
			continue
		}
		if algorithm != Ketama {
			return errors.New("shuffle sharding needs the algorithm ketama")
		}
		if size > len(s.Endpoints) {
			return fmt.Errorf("shard_size %d is more than its %d endpoints", size, len(s.Endpoints))
		}
		// The number of members does not depend on the tenant.
		members, err := shard(s, "any", size)
		if err != nil {
			return fmt.Errorf("shard_size %d: %w", size, err)
		}
		if len(members) < replicas {
			return fmt.Errorf("shard_size %d is below the replication factor %d", size, replicas)
		}
	}
	return nil
}

// algorithm of an element.
func (r *Rings) algorithm(s *Spec) Algorithm {
	a := s.Algorithm
	if a == "" {
		a = r.opts.Algorithm
	}
	if a != Ketama {
		return Hashmod
	}
	return Ketama
}

// Specs returns the elements of the file, which callers must not change.
func (r *Rings) Specs() []Spec { return r.specs }

// Base returns the ring of each element, before shuffle sharding.
func (r *Rings) Base() []*Ring { return r.base }

// For returns the ring of the tenant.
func (r *Rings) For(tenant string) (*Ring, error) {
	r.mu.RLock()
	i, ok := r.cached[tenant]
	r.mu.RUnlock()
	if !ok {
		if i = slices.IndexFunc(r.specs, func(s Spec) bool { return s.serves(tenant) }); i < 0 {
			return nil, fmt.Errorf("no hashring serves the tenant %q", tenant)
		}
		r.mu.Lock()
		if len(r.cached) >= r.most {
			clear(r.cached)
		}
		r.cached[tenant] = i
		r.mu.Unlock()
	}
	s := &r.specs[i]
	if s.Shuffle.Size <= 0 || r.algorithm(s) != Ketama {
		return r.base[i], nil
	}
	return r.shardOf(i, tenant)
}

// shardOf returns the tenant's part of the i-th ring.
func (r *Rings) shardOf(i int, tenant string) (*Ring, error) {
	if ring := r.shards[i].get(tenant); ring != nil {
		return ring, nil
	}
	s, ring := &r.specs[i], r.base[i]
	if size := s.shardSize(tenant); size > 0 {
		members, err := shard(s, tenant, size)
		if err != nil {
			return nil, fmt.Errorf("hashring %q: %w", s.Name, err)
		}
		if ring, err = newRing(s.Name, Ketama, members, r.opts.Replicas); err != nil {
			return nil, err
		}
	}
	r.shards[i].add(tenant, ring)
	return ring, nil
}

// shard chooses the members for a tenant, evenly over the zones.
func shard(s *Spec, tenant string, size int) ([]Endpoint, error) {
	zones := map[string][]Endpoint{}
	var names []string
	for _, e := range s.Endpoints {
		zone := e.AZ
		if s.Shuffle.ZoneAwarenessDisabled {
			zone = ""
		}
		if _, ok := zones[zone]; !ok {
			names = append(names, zone)
		}
		zones[zone] = append(zones[zone], e)
	}
	sort.Strings(names)
	take := (size + len(names) - 1) / len(names)
	var out []Endpoint
	for _, zone := range names {
		if take > len(zones[zone]) {
			return nil, fmt.Errorf("a shard needs %d endpoints in zone %q, which has %d", take, zone, len(zones[zone]))
		}
		out = append(out, pick(zones[zone], tenant, zone, take)...)
	}
	return out, nil
}

// pick chooses members of one zone by walking the zone's sections from random
// points; the seed depends on tenant and zone only.
func pick(members []Endpoint, tenant, zone string, take int) []Endpoint {
	sections := sectionsOf(members)
	seed := md5.New()
	seed.Write([]byte(tenant))
	if zone != "" {
		seed.Write([]byte{0})
		seed.Write([]byte(zone))
	}
	rnd := rand.New(rand.NewSource(int64(binary.BigEndian.Uint64(seed.Sum(nil)))))
	var (
		out   []Endpoint
		taken []int
	)
	for range take {
		u := rnd.Uint64()
		i := sort.Search(len(sections), func(i int) bool { return sections[i].hash >= u })
		for slices.Contains(taken, sections[i%len(sections)].endpoint) {
			i++
		}
		e := sections[i%len(sections)].endpoint
		taken = append(taken, e)
		out = append(out, members[e])
	}
	return out
}
