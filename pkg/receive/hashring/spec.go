package hashring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
)

// Algorithm is a way to place series.
type Algorithm string

// The algorithms. Hashmod moves nearly all series when a node is added; it exists
// for rings that use it already.
const (
	Ketama  Algorithm = "ketama"
	Hashmod Algorithm = "hashmod"
)

// Endpoint is one member of a ring.
type Endpoint struct {
	// Address is where the member serves gRPC, and its identity.
	Address string
	// CapnProtoAddress is where a Thanos member serves Cap'n Proto.
	CapnProtoAddress string
	// AZ is the availability zone, "" when none is given.
	AZ string
}

// Is reports whether local is an address of the member.
func (e Endpoint) Is(local string) bool {
	return local != "" && (local == e.Address || local == e.CapnProtoAddress)
}

// UnmarshalJSON reads a bare address or an object.
func (e *Endpoint) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &e.Address); err != nil {
		var obj struct {
			Address          string `json:"address"`
			CapnProtoAddress string `json:"capnproto_address"`
			AZ               string `json:"az"`
		}
		if err := strict(b, &obj); err != nil {
			if strings.HasPrefix(err.Error(), unknownKey) {
				return err
			}
			return fmt.Errorf("an endpoint is an address or an object with the key address, not %.100s", b)
		}
		*e = Endpoint{Address: obj.Address, CapnProtoAddress: obj.CapnProtoAddress, AZ: obj.AZ}
	}
	if e.Address == "" {
		return errors.New("an endpoint has no address")
	}
	if e.CapnProtoAddress == "" {
		host := e.Address
		if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
			host = host[:i]
		}
		e.CapnProtoAddress = host + ":19391"
	}
	return nil
}

// Spec is one element of the hashring file.
type Spec struct {
	Name           string            `json:"hashring"`
	Tenants        []string          `json:"tenants"`
	MatcherType    string            `json:"tenant_matcher_type"`
	Endpoints      []Endpoint        `json:"endpoints"`
	Algorithm      Algorithm         `json:"algorithm"`
	ExternalLabels map[string]string `json:"external_labels"`
	Shuffle        Shuffle           `json:"shuffle_sharding_config"`
}

// Shuffle gives each tenant its own part of a ring.
type Shuffle struct {
	// Size is the number of members of a tenant's part; 0 means all, for every
	// tenant: overrides count only beside a size.
	Size int `json:"shard_size"`
	// CacheSize is how many tenants' rings are kept, those that were used last; 0
	// means 100.
	CacheSize             int               `json:"cache_size"`
	ZoneAwarenessDisabled bool              `json:"zone_awareness_disabled"`
	Overrides             []ShuffleOverride `json:"overrides"`
}

// ShuffleOverride gives some tenants another size.
type ShuffleOverride struct {
	Size        int      `json:"shard_size"`
	Tenants     []string `json:"tenants"`
	MatcherType string   `json:"tenant_matcher_type"`
}

const unknownKey = "unknown key "

// strict decodes one JSON value. A key that is not known is an error, as it is
// a typing mistake that would otherwise change where series are stored.
func strict(content []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		if key, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return errors.New(unknownKey + key)
		}
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after the end of the value")
	}
	return nil
}

// Parse reads the hashring file. An empty one is an error. The message of a
// syntax error has the line.
func Parse(content []byte) ([]Spec, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, errors.New("the hashring configuration is empty")
	}
	var specs []Spec
	if err := strict(content, &specs); err != nil {
		var (
			syntax *json.SyntaxError
			typ    *json.UnmarshalTypeError
		)
		offset := int64(-1)
		if errors.As(err, &syntax) {
			offset = syntax.Offset
		} else if errors.As(err, &typ) {
			offset = typ.Offset
		}
		if typ != nil && typ.Field == "" {
			err = fmt.Errorf("the file is a list of hashrings, [{...}]; this is a JSON %s", typ.Value)
		}
		if offset >= 0 && offset <= int64(len(content)) {
			return nil, fmt.Errorf("line %d: %w", 1+bytes.Count(content[:offset], []byte("\n")), err)
		}
		return nil, err
	}
	if len(specs) == 0 {
		return nil, errors.New("the hashring configuration has no hashring")
	}
	for i := range specs {
		if err := specs[i].check(); err != nil {
			return nil, fmt.Errorf("hashring %d (%q): %w", i+1, specs[i].Name, err)
		}
	}
	return specs, nil
}

// check rejects a hashring that cannot be used as it is written: without endpoints,
// with an invalid or repeated address, an unknown algorithm or matcher, or a
// negative size. The error does not name the hashring; the caller does.
func (s *Spec) check() error {
	if len(s.Endpoints) == 0 {
		return errors.New("it has no endpoints")
	}
	seen := map[string]bool{}
	for _, e := range s.Endpoints {
		if err := checkAddress(e.Address); err != nil {
			return err
		}
		if seen[e.Address] {
			return fmt.Errorf("endpoint %s is listed twice", e.Address)
		}
		seen[e.Address] = true
	}
	switch s.Algorithm {
	case "", Ketama, Hashmod:
	default:
		return fmt.Errorf("algorithm is %q; it can be ketama or hashmod (Thanos takes hashmod for names that it does not know)", s.Algorithm)
	}
	if s.Shuffle.CacheSize < 0 {
		return fmt.Errorf("cache_size is %d; it must not be below 0", s.Shuffle.CacheSize)
	}
	if s.Shuffle.Size < 0 {
		return fmt.Errorf("shard_size is %d; it must not be below 0", s.Shuffle.Size)
	}
	if err := checkMatcher(s.MatcherType, s.Tenants); err != nil {
		return err
	}
	for _, o := range s.Shuffle.Overrides {
		if err := checkMatcher(o.MatcherType, o.Tenants); err != nil {
			return fmt.Errorf("override of the shard size: %w", err)
		}
	}
	return nil
}

// checkAddress refuses addresses that cannot be those of one node.
func checkAddress(address string) error {
	host, _, ok := splitAddress(address)
	if !ok {
		return fmt.Errorf("endpoint %q is not of the form host:port", address)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return fmt.Errorf("endpoint %s names no host: every node would take it for itself", address)
	}
	return nil
}

func checkMatcher(kind string, patterns []string) error {
	switch kind {
	case "", "exact":
		return nil
	case "glob":
		for _, p := range patterns {
			if _, err := filepath.Match(p, ""); err != nil {
				return fmt.Errorf("tenant pattern %q: %w", p, err)
			}
		}
		return nil
	}
	return fmt.Errorf("tenant_matcher_type is %q; it can be exact or glob", kind)
}

// serves reports whether the element is the one for the tenant.
func (s *Spec) serves(tenant string) bool {
	return len(s.Tenants) == 0 || matches(s.MatcherType, s.Tenants, tenant)
}

func matches(kind string, patterns []string, tenant string) bool {
	for _, p := range patterns {
		if p == tenant && kind != "glob" {
			return true
		}
		if kind == "glob" {
			if ok, err := filepath.Match(p, tenant); ok && err == nil {
				return true
			}
		}
	}
	return false
}

// shardSize is the number of members for the tenant; the first override that
// matches counts. One without a matcher type never does.
func (s *Spec) shardSize(tenant string) int {
	if s.Shuffle.Size <= 0 {
		return 0
	}
	for _, o := range s.Shuffle.Overrides {
		if o.MatcherType != "" && matches(o.MatcherType, o.Tenants, tenant) {
			return o.Size
		}
	}
	return s.Shuffle.Size
}

// Notes lists the parts of the file that have no effect, one sentence each.
func Notes(specs []Spec) (notes []string) {
	for _, s := range specs {
		for i, o := range s.Shuffle.Overrides {
			switch {
			case s.Shuffle.Size <= 0:
				notes = append(notes, fmt.Sprintf("hashring %q: override %d of the shard size has no effect, because the hashring itself has no shard_size", s.Name, i+1))
			case o.MatcherType == "":
				notes = append(notes, fmt.Sprintf("hashring %q: override %d of the shard size matches no tenant, because it has no tenant_matcher_type (exact or glob)", s.Name, i+1))
			}
		}
		if s.Shuffle.CacheSize != 0 && s.Shuffle.Size <= 0 {
			notes = append(notes, fmt.Sprintf("hashring %q: cache_size has no effect without shard_size", s.Name))
		}
	}
	return notes
}

// ExternalLabels returns the extra external labels of the tenant: those of the
// first element that lists it literally.
func ExternalLabels(specs []Spec, tenant string) map[string]string {
	for _, s := range specs {
		for _, t := range s.Tenants {
			if t == tenant && s.MatcherType != "glob" {
				return s.ExternalLabels
			}
		}
	}
	return nil
}

// Addresses returns the addresses of all members, without duplicates, in the
// order of the file.
func Addresses(specs []Spec) []string {
	var out []string
	for _, e := range endpoints(specs) {
		out = append(out, e.Address)
	}
	return out
}

// String names a spec in messages.
func (s *Spec) String() string {
	names := make([]string, len(s.Endpoints))
	for i, e := range s.Endpoints {
		names[i] = e.Address
	}
	return s.Name + " [" + strings.Join(names, " ") + "]"
}
