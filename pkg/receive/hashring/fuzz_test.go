package hashring

import (
	"net/netip"
	"testing"
)

// In each ring that Parse accepts a node finds itself or gets an error, and every
// tenant has a ring or an error.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`[{"endpoints":["a.r:10901","b.r:10901"]}]`), "a", "0.0.0.0:10901", ":19291", "")
	f.Add([]byte(`[{"endpoints":[{"address":"[::1]:1","az":"x"},{"address":"10.0.0.1:2","az":"y"}],"shuffle_sharding_config":{"shard_size":2}}]`), "x", "[::]:1", "", "10.0.0.1:2")
	f.Add([]byte(`[{"endpoints":["h:1"],"tenants":["a*"],"tenant_matcher_type":"glob"},{"endpoints":["h:2","i:1"],"algorithm":"hashmod"}]`), "h", "h:2", "h:1", "h:3")
	f.Fuzz(func(t *testing.T, content []byte, name, listen, write, given string) {
		specs, err := Parse(content)
		if err != nil || len(specs) > 3 || len(Addresses(specs)) > 8 {
			return
		}
		host := Host{Name: name, Listen: listen, Write: write, Given: given, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
		self, err := FindSelf(specs, host, map[string][]netip.Addr{name: host.Addresses})
		if err == nil && self.Address != "" {
			listed := false
			for _, a := range Addresses(specs) {
				listed = listed || a == self.Address
			}
			if !listed {
				t.Fatalf("this node is %s, which is not in the ring", self.Address)
			}
		}
		rings, err := New(specs, Options{Algorithm: Ketama, Replicas: 1})
		if err != nil {
			return
		}
		for _, tenant := range []string{"a", "b"} {
			ring, err := rings.For(tenant)
			if err != nil {
				continue
			}
			if set := ring.Set(ring.Lookup(1 << 40)); len(set) != 1 || set[0] >= len(ring.Endpoints()) {
				t.Fatalf("the replica set is %v", set)
			}
		}
	})
}
