package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// lookup is how an address is resolved.
type lookup string

const (
	lookupNone      lookup = ""
	lookupDNS       lookup = "dns"
	lookupDualStack lookup = "dnsdualstack"
	lookupSRV       lookup = "dnssrv"
	lookupSRVNoA    lookup = "dnssrvnoa"
)

// splitAddress takes the lookup type off an address.
func splitAddress(addr string) (lookup, string, error) {
	kind, name, ok := strings.Cut(addr, "+")
	if !ok {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return "", "", fmt.Errorf("address %q needs the form host:port", addr)
		}
		return lookupNone, addr, nil
	}
	switch l := lookup(kind); l {
	case lookupDNS, lookupDualStack:
		if _, _, err := net.SplitHostPort(name); err != nil {
			return "", "", fmt.Errorf("address %q needs the form %s+host:port", addr, l)
		}
		return l, name, nil
	case lookupSRV, lookupSRVNoA:
		if name == "" {
			return "", "", fmt.Errorf("address %q has no name to look up", addr)
		}
		return l, name, nil
	}
	return "", "", fmt.Errorf("address %q has the unknown lookup type %q (choose dns, dnssrv, dnssrvnoa or dnsdualstack)", addr, kind)
}

// Resolver is the part of net.Resolver that is used.
type Resolver interface {
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// resolve returns the sorted host:port addresses behind an address. A name that
// does not exist has none; that is no error.
func resolve(ctx context.Context, r Resolver, kind lookup, name string) ([]string, error) {
	var out []string
	var err error
	switch kind {
	case lookupNone:
		return []string{name}, nil
	case lookupDNS, lookupDualStack:
		host, port, splitErr := net.SplitHostPort(name)
		if splitErr != nil {
			return nil, splitErr
		}
		out, err = hosts(ctx, r, host, port)
	default:
		out, err = services(ctx, r, kind, name)
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s %q: %w", kind, name, err)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func hosts(ctx context.Context, r Resolver, host, port string) ([]string, error) {
	ips, err := r.LookupIPAddr(ctx, host)
	if err := unlessNotFound(err); err != nil {
		return nil, err
	}
	out := make([]string, 0, len(ips))
	for _, ip := range ips {
		out = append(out, net.JoinHostPort(ip.String(), port))
	}
	return out, nil
}

// services resolves the SRV records of a name to addresses. A port in the name
// replaces the port of the records. A lookup of kind lookupSRVNoA returns the
// targets as names; any other one resolves them to IP addresses. A name without
// records gives no addresses and no error.
func services(ctx context.Context, r Resolver, kind lookup, name string) ([]string, error) {
	fixed := ""
	if host, port, err := net.SplitHostPort(name); err == nil {
		name, fixed = host, port
	}
	_, records, err := r.LookupSRV(ctx, "", "", name)
	if err := unlessNotFound(err); err != nil {
		return nil, err
	}
	var out []string
	for _, rec := range records {
		port := fixed
		if port == "" {
			port = strconv.Itoa(int(rec.Port))
		}
		if kind == lookupSRVNoA {
			out = append(out, net.JoinHostPort(strings.TrimSuffix(rec.Target, "."), port))
			continue
		}
		addrs, err := hosts(ctx, r, rec.Target, port)
		if err != nil {
			return nil, err
		}
		out = append(out, addrs...)
	}
	return out, nil
}

func unlessNotFound(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil
	}
	return err
}
