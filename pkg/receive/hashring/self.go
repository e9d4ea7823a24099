package hashring

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Host describes a node that is to be found in the rings.
type Host struct {
	// Name is the host name of the machine.
	Name string
	// Listen is the address of the gRPC server, which others name in their
	// rings; Write that of the remote write server. Either may be empty.
	Listen, Write string
	// Addresses are those of the network interfaces.
	Addresses []netip.Addr
	// Given is the address that the configuration names as this node, or empty.
	Given string
}

// Self is a node's place in the rings.
type Self struct {
	// Address is this node's address in the rings, "" when it only routes.
	Address string
	// Note describes a likely mistake in the configuration, "" when there is none.
	Note string
}

// relation is how an address in the ring is related to this node.
type relation int

const (
	unrelated relation = iota
	// several is a name that DNS resolves to this node and to others.
	several
	// resolved is another name than this host's that DNS resolves to this node; an
	// old answer may be about the host that had the address before.
	resolved
	// sameName is this host's name, which DNS resolves to other addresses.
	sameName
	// likely is this host's name, which DNS does not resolve.
	likely
	// known is this host's name, which DNS resolves to this host.
	known
	// literal is an address of this host.
	literal
)

// FindSelf finds this node among the members. dns holds the addresses of the names
// of members, as far as they are known. Rings that would cause a
// routing loop are errors.
func FindSelf(specs []Spec, h Host, dns map[string][]netip.Addr) (Self, error) {
	var (
		by     = map[relation][]string{}
		listed string
		note   string
	)
	_, port, _ := splitAddress(h.Listen)
	_, write, _ := splitAddress(h.Write)
	for _, e := range endpoints(specs) {
		if e.Is(h.Given) {
			listed = e.Address
		}
		name, memberPort, ok := splitAddress(e.Address)
		if !ok {
			return Self{}, fmt.Errorf("endpoint %q is not of the form host:port", e.Address)
		}
		rel := h.relation(name, dns[name])
		if port == "" || port == "0" || memberPort == port {
			by[rel] = append(by[rel], e.Address)
			continue
		}
		if rel == unrelated || rel == sameName || rel == resolved {
			continue
		}
		if write == memberPort {
			return Self{}, fmt.Errorf("endpoint %s is where this node takes remote write; members are named with the port of their gRPC server, which is %s here", e.Address, port)
		}
		if rel != several {
			note = fmt.Sprintf("endpoint %s is this host, but not the port of this node's gRPC server, %s", e.Address, port)
		}
	}
	sure := slices.Concat(by[literal], by[known])
	if len(by[literal]) > 0 {
		sure = append(sure, by[resolved]...)
	}
	if len(sure) > 1 {
		return Self{}, fmt.Errorf("endpoints %s are all this node: writes would be sent to itself, and copies stored twice; list each node once, under one address",
			strings.Join(sure, " and "))
	}
	if h.Given != "" {
		return h.given(listed, by, note)
	}
	if len(by[several]) > 0 {
		return Self{}, fmt.Errorf("endpoint %s stands for this node and for others: writes would come back to this node; list each node under an address of its own",
			by[several][0])
	}
	for _, rel := range []relation{literal, known, likely, sameName, resolved} {
		switch len(by[rel]) {
		case 0:
			continue
		case 1:
			return Self{Address: by[rel][0]}, nil
		}
		return Self{}, fmt.Errorf("several endpoints of the hashring may be this node (%s): name it with --receive.local-endpoint", strings.Join(by[rel], ", "))
	}
	return Self{Note: note}, nil
}

// given compares the address that the node was configured with to the members that
// are this node.
func (h Host) given(listed string, by map[relation][]string, note string) (Self, error) {
	mine := slices.Concat(by[literal], by[known])
	if listed != "" && len(mine) == 1 && mine[0] != listed {
		return Self{}, fmt.Errorf("endpoint %s is this node too, which --receive.local-endpoint says to be %s: "+
			"writes would be sent to itself, and copies stored twice; list each node once, under one address", mine[0], listed)
	}
	if listed != "" {
		return Self{Address: listed}, nil
	}
	if len(mine) == 0 && len(by[likely]) == 1 {
		mine = by[likely]
	}
	if len(mine) == 1 {
		return Self{}, fmt.Errorf("this node is %s in the hashring, but --receive.local-endpoint is %s, which is not in it: "+
			"it would send its own share to itself over the network; set --receive.local-endpoint=%s", mine[0], h.Given, mine[0])
	}
	return Self{Note: note}, nil
}

// relation returns how a member's host is related to this one. addresses are those
// that DNS knows for its name.
func (h Host) relation(name string, addresses []netip.Addr) relation {
	if strings.EqualFold(name, "localhost") {
		name = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		if h.owns(ip) {
			return literal
		}
		return unrelated
	}
	own := 0
	for _, ip := range addresses {
		if h.owns(ip) {
			own++
		}
	}
	same := sameHost(name, h.Name)
	switch {
	case same && own > 0:
		return known
	case same && len(addresses) > 0:
		return sameName
	case same:
		return likely
	case own == 0:
		return unrelated
	case own < len(addresses):
		return several
	}
	return resolved
}

// owns reports whether traffic to the address reaches this node's gRPC server,
// given the right port.
func (h Host) owns(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if listen, _, ok := splitAddress(h.Listen); ok {
		if bound, err := netip.ParseAddr(listen); err == nil && !bound.IsUnspecified() {
			return ip == bound.Unmap().WithZone("")
		}
	}
	return ip.IsLoopback() || slices.ContainsFunc(h.Addresses, func(a netip.Addr) bool { return a.Unmap().WithZone("") == ip })
}

// sameHost reports whether two names are of one host: equal, or one a prefix of
// the other up to a dot, as pods of a StatefulSet have the short name and rings the
// long one.
func sameHost(a, b string) bool {
	a, b = strings.ToLower(strings.TrimSuffix(a, ".")), strings.ToLower(strings.TrimSuffix(b, "."))
	return a != "" && b != "" && (a == b || strings.HasPrefix(a, b+".") || strings.HasPrefix(b, a+"."))
}

// splitAddress takes host:port or [host]:port apart; the host may be empty.
func splitAddress(address string) (host, port string, ok bool) {
	i := strings.LastIndexByte(address, ':')
	if i < 0 || i == len(address)-1 {
		return "", "", false
	}
	host, port = address[:i], address[i+1:]
	if bare, bracketed := strings.CutPrefix(host, "["); bracketed {
		host, ok = strings.CutSuffix(bare, "]")
		return host, port, ok
	}
	return host, port, !strings.ContainsAny(host, ":[]")
}

// endpoints returns all members, without duplicates, in the order of the file.
func endpoints(specs []Spec) (out []Endpoint) {
	seen := map[string]bool{}
	for _, s := range specs {
		for _, e := range s.Endpoints {
			if !seen[e.Address] {
				seen[e.Address] = true
				out = append(out, e)
			}
		}
	}
	return out
}
