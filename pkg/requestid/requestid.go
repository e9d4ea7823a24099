package requestid

import (
	"context"
	"net/http"

	"github.com/oklog/ulid/v2"
)

// Names of the header and of the key of gRPC metadata that carry an id.
const (
	Header      = "X-Request-Id"
	MetadataKey = "request-id"
)

// maxLength bounds an id in bytes. Clients choose ids, which are written to logs and
// sent to other servers.
const maxLength = 128

type key struct{}

// NewContext returns ctx with the id.
func NewContext(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, key{}, id)
}

// FromContext returns the id of ctx, or "" when there is none.
func FromContext(ctx context.Context) string {
	id, _ := ctx.Value(key{}).(string)
	return id
}

// Accept returns the id that a client sent, and a new one when there is none or when it
// is longer than 128 bytes or has bytes other than visible ASCII.
func Accept(sent string) string {
	if sent == "" || len(sent) > maxLength {
		return ulid.Make().String()
	}
	for i := range len(sent) {
		if sent[i] <= ' ' || sent[i] > '~' {
			return ulid.Make().String()
		}
	}
	return sent
}

// Part returns the id of a part of the request, which is unique if part is, and begins
// with the id of the request. A client may send the same id with many requests, so that
// servers which count the calls of one id as one need such an id.
func Part(id, part string) string {
	return id[:min(len(id), max(0, maxLength-len(part)-1))] + "." + part
}

// Handler puts the id of each request into its context and into the header of the
// answer.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := Accept(r.Header.Get(Header))
		w.Header().Set(Header, id)
		next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), id)))
	})
}

// Text returns the text of an error for the client of the request, with its id where the
// status says that the server failed: its logs have the details. header is that of the
// answer.
func Text(header http.Header, status int, text string) string {
	if id := header.Get(Header); id != "" && status >= http.StatusInternalServerError {
		return text + " (request id " + id + ")"
	}
	return text
}
