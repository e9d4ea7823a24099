package endpoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// errNoAddress says that the configuration names stores of which discovery finds
// none. Such a name counts as a missing store: after a restart of the querier it
// is all that is known of the stores behind it.
var errNoAddress = errors.New("discovery finds no address; remove the name from the configuration if there are no such stores")

// addresses returns where to connect to for the specs and the discovery files. A
// name without any address stands for itself.
func (s *Set) addresses(ctx context.Context, now time.Time, specs []Spec, def ClientConfig) map[string]want {
	out := map[string]want{}
	for _, addr := range s.sdAddrs {
		specs = append(specs, Spec{Address: addr})
	}
	inFile := len(specs) - len(s.sdAddrs)
	found := s.lookupAll(ctx, now, specs)
	for i, spec := range specs {
		result, looked := found[spec.Address]
		if !looked {
			out[spec.Address] = want{spec: spec, client: spec.Client.resolved(def), discovered: i >= inFile}
			continue
		}
		for _, addr := range result.addrs {
			out[addr] = want{spec: spec, client: def, discovered: true}
		}
		if len(result.addrs) == 0 && !s.knows(spec.Address) {
			out[spec.Address] = want{spec: spec, err: noAddress(result.err)}
		}
	}
	for _, pattern := range s.sdMissing {
		out[pattern] = want{spec: Spec{Address: pattern}, err: fmt.Errorf("no file has a name like %s: %w", pattern, errNoAddress)}
	}
	return out
}

func noAddress(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", errNoAddress, err)
	}
	return errNoAddress
}

// knows reports whether a store that has answered is an address of the name: it is
// reported as missing then, by its own name.
func (s *Set) knows(name string) bool {
	return slices.ContainsFunc(slices.Collect(maps.Values(s.endpoints)), func(e *Endpoint) bool {
		return e.discovered && e.spec.Address == name && e.wasContacted()
	})
}

// lookupAll looks up the names of the specs that need it, at the same time, and
// returns the results by the address of the spec.
func (s *Set) lookupAll(ctx context.Context, now time.Time, specs []Spec) map[string]dnsResult {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Interval)
	defer cancel()
	out := map[string]dnsResult{}
	var mtx sync.Mutex
	var wg sync.WaitGroup
	for _, spec := range specs {
		kind, name, err := splitAddress(spec.Address)
		// An address that is not valid was refused when it was read.
		if err != nil || kind == lookupNone || spec.Group {
			continue
		}
		last, known := s.dns[spec.Address]
		if known && now.Sub(last.at) < s.cfg.DNSInterval {
			out[spec.Address] = last
			continue
		}
		wg.Go(func() {
			s.metrics.dnsLookups.Inc()
			addrs, err := resolve(ctx, s.cfg.Resolver, kind, name)
			result := dnsResult{addrs: addrs, at: now}
			if err != nil {
				s.metrics.dnsFailures.Inc()
				s.cfg.Logger.Warn("endpoint lookup failed", "address", spec.Address, "err", err)
				// Tried again at the next refresh.
				result = dnsResult{addrs: last.addrs, err: err}
			}
			mtx.Lock()
			defer mtx.Unlock()
			out[spec.Address] = result
		})
	}
	wg.Wait()
	s.dns = maps.Clone(out)
	return out
}
