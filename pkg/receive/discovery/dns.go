package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/hindsight-io/hindsight/pkg/receive/members"
)

// dnsHosts finds the addresses of a name. Their identity is the IP address, so they
// must keep it over a restart.
type dnsHosts struct {
	name     string // host:port
	resolver Resolver
}

// Watch waits: DNS does not report changes.
func (d *dnsHosts) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Fetch looks the name up. One that does not exist has no addresses; that is no error,
// as a service without ready pods has no name.
func (d *dnsHosts) Fetch(ctx context.Context, _ bool) (Result, error) {
	host, port, err := net.SplitHostPort(d.name)
	if err != nil {
		return Result{}, err
	}
	ips, err := d.resolver.LookupNetIP(ctx, "ip", host)
	if err := unlessNotFound(err); err != nil {
		return Result{}, fmt.Errorf("look up the members %s: %w", host, err)
	}
	var out Result
	for _, ip := range ips {
		out.Found = append(out.Found, members.Found{Address: net.JoinHostPort(ip.Unmap().String(), port)})
	}
	return out, nil
}

// dnsServices finds the targets of SRV records. Their identity is the name of the
// target, which a pod of a StatefulSet keeps when its address changes.
type dnsServices struct {
	name     string // of the records, and :port to override theirs
	resolver Resolver
}

// Watch waits: DNS does not report changes.
func (d *dnsServices) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

// Fetch looks up the records; a name without any is no error.
func (d *dnsServices) Fetch(ctx context.Context, _ bool) (Result, error) {
	name, fixedPort := d.name, 0
	if host, port, err := net.SplitHostPort(d.name); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return Result{}, fmt.Errorf("look up the members %s: port %q is not a number", d.name, port)
		}
		name, fixedPort = host, int(n)
	}
	_, records, err := d.resolver.LookupSRV(ctx, "", "", name)
	if err := unlessNotFound(err); err != nil {
		return Result{}, fmt.Errorf("look up the members %s: %w", name, err)
	}
	var out Result
	for _, r := range records {
		port := fixedPort
		if port == 0 {
			port = int(r.Port)
		}
		out.Found = append(out.Found, members.Found{Address: join(r.Target, port)})
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
