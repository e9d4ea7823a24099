package requestlog

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// destructive is a call that deletes data, makes it invisible, or ends the work of
// others.
type destructive struct {
	methods, action string
	// suffix ends the path; within is a part of the path of calls that name an object
	// behind it.
	suffix, within string
}

// destructiveCalls are those of all roles. Paths have prefixes, so their ends count.
var destructiveCalls = [...]destructive{
	{methods: "POST", suffix: "/api/v1/blocks/mark", action: "mark_block"},
	{methods: "POST PUT", suffix: "/api/v1/admin/tsdb/delete_series", action: "delete_series"},
	{methods: "POST", within: "/api/v1/admin/tsdb/deletions/", suffix: "/cancel", action: "cancel_deletion"},
	{methods: "POST", suffix: "/-/flush", action: "flush"},
	{methods: "POST", suffix: "/-/prepare-downscale", action: "prepare_downscale"},
	{methods: "DELETE", suffix: "/-/prepare-downscale", action: "cancel_downscale"},
	{methods: "DELETE", within: "/api/v1/queries/", action: "end_query"},
	{methods: "DELETE", suffix: "/api/v1/stores", action: "forget_store"},
}

// auditedParams are the parameters that say what a call does.
var auditedParams = [...]string{"id", "action", "detail", "details", "match[]", "start", "end", "tenant", "delay", "address"}

// maxParams bounds the parameters in one line, in bytes.
const maxParams = 2 << 10

// actionOf returns the name of a destructive call, "" for other requests.
func actionOf(r *http.Request) string {
	for _, d := range destructiveCalls {
		if strings.Contains(d.methods, r.Method) && r.Method != "" && strings.HasSuffix(r.URL.Path, d.suffix) && strings.Contains(r.URL.Path, d.within) {
			return d.action
		}
	}
	return ""
}

// Audit logs each destructive call: the user and address of the client, what it asked
// for, and the result. It does so whatever the configuration says, also for calls that
// next refuses. It must be inside of requestid.Handler.
func (l *Log) Audit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := actionOf(r)
		if action == "" {
			next.ServeHTTP(w, r)
			return
		}
		answer := &countedAnswer{ResponseWriter: w}
		ctx, noted := tenant.WithNoted(r.Context())
		r = r.WithContext(ctx)
		complete := false
		defer func() {
			result := "success"
			switch {
			case !complete:
				result = "aborted"
			case answer.code() == http.StatusUnauthorized || answer.code() == http.StatusForbidden:
				result = "refused"
			case answer.code() >= http.StatusBadRequest:
				result = "failed"
			}
			user, _, _ := r.BasicAuth()
			attrs := []slog.Attr{
				slog.String("action", action), slog.String("path", bounded(r.URL.Path, maxPath)),
				slog.String("params", params(r)), slog.String("user", bounded(user, maxUser)), slog.String("remote", r.RemoteAddr),
				slog.String("request_id", requestid.FromContext(ctx)), slog.Int("status", answer.code()), slog.String("result", result),
			}
			attrs = appendText(attrs, "tenant", bounded(noted.Tenant(), maxTenant))
			l.logger.LogAttrs(ctx, slog.LevelWarn, "audit", attrs...)
		}()
		next.ServeHTTP(answer, r)
		complete = true
	})
}

// params returns what the call says about its object. The form has been read by the
// handler; a refused one has none.
func params(r *http.Request) string {
	form := r.Form
	if form == nil {
		form = r.URL.Query()
	}
	var b strings.Builder
	for _, name := range auditedParams {
		for _, v := range form[name] {
			if b.Len() > maxParams {
				return b.String() + " ..."
			}
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(name + "=" + bounded(v, maxPath))
		}
	}
	return b.String()
}
