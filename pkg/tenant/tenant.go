// Package tenant finds the tenant of a request: it reads the tenant's
// name from an HTTP request, checks that it is safe to use as the name of a
// directory, and carries it in a context.
package tenant

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Names of the headers that carry a tenant.
const (
	// Header is the header of the Thanos family.
	Header = "THANOS-TENANT"
	// OrgHeader is the header of the Cortex family.
	OrgHeader = "X-Scope-OrgID"
	// noOrg is the value of OrgHeader that names no tenant: the query frontend of Thanos sends it
	// beside the tenant in Header.
	noOrg = "anonymous"
	// Default is the tenant of requests that name none.
	Default = "default-tenant"
)

// maxLength bounds a tenant's name, in bytes.
const maxLength = 150

// ErrInvalid is the error of names that cannot be tenants.
var ErrInvalid = errorid.Sentinel(errorid.TenantInvalid, "invalid tenant")

type key struct{}

// NewContext returns ctx with the tenant id.
func NewContext(ctx context.Context, id string) context.Context {
	Note(ctx, id)
	return context.WithValue(ctx, key{}, id)
}

// FromContext returns the tenant of ctx, or "" when there is none.
func FromContext(ctx context.Context) string {
	id, _ := ctx.Value(key{}).(string)
	return id
}

// separator stands between the names of several tenants, as in Mimir. Only requests
// that read may name several.
const separator = "|"

// Join returns the id of a request that reads the data of all of the tenants.
func Join(ids []string) string { return strings.Join(ids, separator) }

// Split returns the tenants that an id names.
func Split(id string) []string { return strings.Split(id, separator) }

// Includes reports whether the request of ctx may see data of the tenant id: it
// names the tenant, or it is not restricted to tenants.
func Includes(ctx context.Context, id string) bool {
	return !Only(ctx) || slices.Contains(Split(FromContext(ctx)), id)
}

type onlyKey struct{}

// NewOnlyContext returns ctx with the mark that the tenant of ctx must see no data of
// other tenants, for stores whose series do not have the tenant as a label.
func NewOnlyContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, onlyKey{}, true)
}

// Only reports whether ctx has that mark.
func Only(ctx context.Context) bool { return ctx.Value(onlyKey{}) != nil }

// Validate accepts names that are one path element: not empty, at most
// maxLength bytes, valid UTF-8 without control characters, no separator, and
// neither "." nor "..". So a valid name never leaves the directory that it is
// joined to. Names starting with a dot are refused too: directories with such
// names are never tenants.
func Validate(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: the name is empty", ErrInvalid)
	case len(id) > maxLength:
		return fmt.Errorf("%w: the name has %d bytes, more than %d", ErrInvalid, len(id), maxLength)
	case !utf8.ValidString(id):
		return fmt.Errorf("%w: %q is not UTF-8", ErrInvalid, id)
	case path.Base(id) != id || strings.ContainsAny(id, `/\`):
		return fmt.Errorf("%w: %q contains a path separator", ErrInvalid, id)
	case id[0] == '.':
		return fmt.Errorf("%w: %q starts with a dot", ErrInvalid, id)
	case reserved(id):
		return fmt.Errorf("%w: %q is reserved", ErrInvalid, id)
	case strings.ContainsFunc(id, unicode.IsControl):
		return fmt.Errorf("%w: %q contains a control character", ErrInvalid, id)
	}
	return nil
}

// reserved reports whether receivers have a file of that name, or file systems a
// directory, beside the directories of the tenants.
func reserved(id string) bool {
	return id == "lost+found" || strings.HasPrefix(id, "hashring-members.json") ||
		strings.HasPrefix(id, "hints-") && strings.HasSuffix(id, ".hint")
}

// Source configures where the tenant of an HTTP request is read.
type Source struct {
	// CertificateField is one of "organization", "organizationalUnit" and
	// "commonName"; when set, only the client's certificate counts.
	CertificateField string
	// Headers are tried in order; the first that is present wins.
	Headers []string
	// Default is used when no header is present.
	Default string
}

// FromHTTP returns the valid tenant of the request. Every error is the fault
// of the client and wraps ErrInvalid.
func FromHTTP(r *http.Request, src Source) (string, error) {
	id, err := find(r, src)
	if err != nil {
		return "", err
	}
	if err := Validate(id); err != nil {
		return "", err
	}
	return id, nil
}

// maxTenants bounds the tenants that one request names.
const maxTenants = 100

// AllFromHTTP returns the valid tenants of a request that may name several, separated
// by |, in the order of their names. The certificate names one. Headers that name
// different tenants are refused: a proxy that sets one of them cannot know that the
// client has set another. The value "anonymous" of OrgHeader counts only where no other header
// names a tenant. Every error is the fault of the client and wraps ErrInvalid.
func AllFromHTTP(r *http.Request, src Source) ([]string, error) {
	if src.CertificateField != "" {
		id, err := FromHTTP(r, src)
		return []string{id}, err
	}
	id, from := "", ""
	for _, h := range src.Headers {
		for _, v := range r.Header.Values(h) {
			switch {
			case v == "" || v == id || id != "" && h == OrgHeader && v == noOrg:
			case id != "":
				return nil, fmt.Errorf("%w: the headers %s and %s name different tenants, %q and %q", ErrInvalid, from, h, id, v)
			default:
				id, from = v, h
			}
		}
	}
	if id == "" {
		id = src.Default
	}
	ids := Split(id)
	if len(ids) > maxTenants {
		return nil, fmt.Errorf("%w: %d tenants in one request are more than %d", ErrInvalid, len(ids), maxTenants)
	}
	for _, one := range ids {
		if err := Validate(one); err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

func find(r *http.Request, src Source) (string, error) {
	if src.CertificateField != "" {
		return fromCertificate(r, src.CertificateField)
	}
	for _, h := range src.Headers {
		if id := r.Header.Get(h); id != "" {
			return id, nil
		}
	}
	return src.Default, nil
}

func fromCertificate(r *http.Request, field string) (string, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: the request has no client certificate to take the field %s from", ErrInvalid, field)
	}
	subject := r.TLS.PeerCertificates[0].Subject
	var values []string
	switch field {
	case "organization":
		values = subject.Organization
	case "organizationalUnit":
		values = subject.OrganizationalUnit
	case "commonName":
		if subject.CommonName != "" {
			values = []string{subject.CommonName}
		}
	default:
		return "", fmt.Errorf("%w: unknown certificate field %q", ErrInvalid, field)
	}
	if len(values) == 0 {
		return "", fmt.Errorf("%w: the client certificate has no field %s", ErrInvalid, field)
	}
	return values[0], nil
}
