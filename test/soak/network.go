package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// network is where the processes of a site run: each has an address of its own.
type network interface {
	ip(name string) string
	start(name, bin string, args ...string) (*harness.Process, error)
	dial(ctx context.Context, network, address string) (net.Conn, error)
	listen(port int) (net.Listener, error)
	close() error
}

// divisible is a network that loses packets on request: all of from where to is empty,
// else those from one process to the other.
type divisible interface {
	lose(from, to string) error
	find(from, to string) error
}

// openNetwork makes namespaces for the processes, or says on out why the site has none.
func openNetwork(dir string, names []string, out io.Writer) (network, error) {
	p, err := harness.NewPods(dir, "soak", names...)
	if err == nil {
		return pods{p}, nil
	}
	if !errors.Is(err, harness.ErrNoPods) {
		return nil, err
	}
	fmt.Fprintf(out, "no partitions: %v\n", err)
	host := harness.Host()
	return loopback{dir: dir, names: names, prefix: host[:strings.LastIndex(host, ".")]}, nil
}

// pods is a network of namespaces.
type pods struct{ *harness.Pods }

func (p pods) ip(name string) string { return p.IP(name) }

func (p pods) start(name, bin string, args ...string) (*harness.Process, error) {
	return p.Start(name, bin, args...)
}

func (p pods) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return p.Dial(ctx, network, address)
}
func (p pods) listen(port int) (net.Listener, error) { return p.Listen(strconv.Itoa(port)) }
func (p pods) close() error                          { return p.Close() }

func (p pods) lose(from, to string) error {
	if to == "" {
		return p.Cut(from)
	}
	return p.Lose(from, to)
}

func (p pods) find(from, to string) error {
	if to == "" {
		return p.Join(from)
	}
	return p.Find(from, to)
}

// loopback gives each process an address of 127.0.0.0/8.
type loopback struct {
	dir, prefix string
	names       []string
}

func (l loopback) ip(name string) string {
	for i, n := range l.names {
		if n == name {
			return fmt.Sprintf("%s.%d", l.prefix, 10+i)
		}
	}
	panic("BUG: the site has no process " + name)
}

func (l loopback) host() string { return l.prefix + ".1" }

func (l loopback) start(name, bin string, args ...string) (*harness.Process, error) {
	return harness.Start(l.dir, name, bin, args...)
}

func (l loopback) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (l loopback) listen(port int) (net.Listener, error) {
	return net.Listen("tcp", fmt.Sprintf("%s:%d", l.host(), port))
}

func (l loopback) close() error { return nil }
