package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/receive/members"
)

// Result is what a source knows of the receivers.
type Result struct {
	Found []members.Found
	// Pods is the number of pods of each StatefulSet, as far as it is known.
	Pods map[string]int
}

// Source finds receivers.
type Source interface {
	// Watch calls changed when Fetch has something new, until ctx ends. It returns nil.
	Watch(ctx context.Context, changed func()) error
	// Fetch returns the receivers, in any order. fresh asks for an answer that is not
	// older than the call. It may be called while Watch runs, by one caller at a time.
	Fetch(ctx context.Context, fresh bool) (Result, error)
}

// Config of the sources.
type Config struct {
	Logger *slog.Logger
	// Credentials is the directory with the token and the ca.crt of a service account.
	Credentials string
	// Resolver looks up names; nil is that of the system.
	Resolver Resolver
}

// Resolver is the part of net.Resolver that is used.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Parse makes the source of an address:
//
//	host:port                          one receiver
//	dns+<host>:<port>                  the IP addresses of a name
//	dnssrv+<name>, dnssrvnoa+<name>    the targets of SRV records, by their names
//	k8s+<service>.<namespace>.svc:<port or its name>    the endpoints of a service
func Parse(address string, cfg Config) (Source, error) {
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	kind, name, ok := strings.Cut(address, "+")
	if !ok {
		kind, name = "", address
	}
	if kind != "dnssrv" && kind != "dnssrvnoa" {
		if host, port, err := net.SplitHostPort(name); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("member %q needs the form %s", address, form(kind))
		}
	}
	switch kind {
	case "":
		return fixed(strings.ToLower(name)), nil
	case "dns":
		return &dnsHosts{name: name, resolver: cfg.Resolver}, nil
	case "dnssrv", "dnssrvnoa":
		if name == "" {
			return nil, fmt.Errorf("member %q has no name to look up", address)
		}
		return &dnsServices{name: name, resolver: cfg.Resolver}, nil
	case "k8s":
		return newEndpoints(name, cfg)
	}
	return nil, fmt.Errorf("member %q has the unknown kind %q (choose dns, dnssrv or k8s)", address, kind)
}

func form(kind string) string {
	switch kind {
	case "k8s":
		return "k8s+<service>.<namespace>.svc:<port>"
	case "":
		return "host:port"
	}
	return kind + "+host:port"
}

// fixed is one receiver that is always there.
type fixed string

func (f fixed) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

func (f fixed) Fetch(context.Context, bool) (Result, error) {
	return Result{Found: []members.Found{{Address: string(f)}}}, nil
}

// join is the address of a receiver. Names are compared as they are, so they are
// brought to one form.
func join(host string, port int) string {
	return net.JoinHostPort(strings.ToLower(strings.TrimSuffix(host, ".")), strconv.Itoa(port))
}
