package hashring

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Host is what a node knows about itself when it looks for itself in the rings.
type Host struct {
	// Name is what the machine calls itself.
	Name string
	// Listen is the address of the gRPC server, which others name in their
	// rings; Write that of the remote write server. Either may be empty.
	Listen, Write string
	// Addresses are those of the network interfaces.
	Addresses []netip.Addr
	// Given is the address that this node was told to be, or empty.
	Given string
}

// Self is a node's place in the rings.
type Self struct {
	// Address is this node's address in the rings, "" when it only routes.
	Address string
	// Note says what looks wrong without being so for sure, "" when nothing.
	Note string
}

// kinship says how an address in the ring is related to this node.
type kinship int

const (
	stranger kinship = iota
	// several is a name that stands for this node and for others.
	several
	// resolved is another name than this host's, which DNS gives this node's
	// address; an old answer may be about somebody who had the address before.
	resolved
	// namesake has this host's name, but DNS knows it by other addresses.
	namesake
	// likely has this host's name, of which DNS knows nothing.
	likely
	// known has this host's name and address.
	known
	// literal is an address of this host.
	literal
)

// FindSelf finds this node among the members. dns holds what the names of the
// members stand for, as far as it is known. Rings that would bring writes
// back to the node that sends them are errors.
func FindSelf(specs []Spec, h Host, dns map[string][]netip.Addr) (Self, error) {
	var (
		by     = map[kinship][]string{}
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
		kin := h.kin(name, dns[name])
		if port == "" || port == "0" || memberPort == port {
			by[kin] = append(by[kin], e.Address)
			continue
		}
		if kin == stranger || kin == namesake || kin == resolved {
			continue
		}
		if write == memberPort {
			return Self{}, fmt.Errorf("endpoint %s is where this node takes remote write; members are named with the port of their gRPC server, which is %s here", e.Address, port)
		}
		if kin != several {
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
	for _, kin := range []kinship{literal, known, likely, namesake, resolved} {
		switch len(by[kin]) {
		case 0:
			continue
		case 1:
			return Self{Address: by[kin][0]}, nil
		}
		return Self{}, fmt.Errorf("several endpoints of the hashring may be this node (%s): name it with --receive.local-endpoint", strings.Join(by[kin], ", "))
	}
	return Self{Note: note}, nil
}

// given holds what the node was told to be against what it sees.
func (h Host) given(listed string, by map[kinship][]string, note string) (Self, error) {
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

// kin says how a member's host is related to this one.
func (h Host) kin(name string, addresses []netip.Addr) kinship {
	if strings.EqualFold(name, "localhost") {
		name = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		if h.owns(ip) {
			return literal
		}
		return stranger
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
		return namesake
	case same:
		return likely
	case own == 0:
		return stranger
	case own < len(addresses):
		return several
	}
	return resolved
}

// owns says whether traffic to the address reaches this node's gRPC server,
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

// sameHost says whether two names are of one host: the same, or one the first
// part of the other, as the pods of a StatefulSet know their short name and the
// ring the long one.
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
