package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// Each error of the API has an id: in the header, in the field errorId and at the end of the
// text; the fields that Prometheus has are as it has them. Answers without an error have
// no id.
func TestErrors_HaveAnID(t *testing.T) {
	series := fmt.Errorf("read: %w", &limit.Error{What: "series", Flag: "--query.max-fetched-series", Max: 1, Needed: 2})
	query := values("query", "up")
	for _, c := range []struct {
		name, path string
		form       url.Values
		failure    error
		change     func(*Config)
		code       int
		kind       string
		id         errorid.ID
	}{
		{"a good answer", "/api/v1/query", query, nil, nil, 200, "", ""},
		{"malformed expression", "/api/v1/query", values("query", "up{"), nil, nil, 400, "bad_data", errorid.QueryInvalid},
		{"malformed time", "/api/v1/query", values("query", "up", "time", "noon"), nil, nil, 400, "bad_data", errorid.QueryInvalid},
		{"failed evaluation", "/api/v1/query", values("query", `up * on(job) up`, "time", "60"), nil, nil, 422, "execution", errorid.QueryFailed},
		{"limit of the storage", "/api/v1/query", query, series, nil, 422, "execution", errorid.LimitQuerySeries},
		{"limit of the storage, for series", "/api/v1/series", values("match[]", "up"), series, nil, 422, "execution", errorid.LimitQuerySeries},
		{"refused partial answer", "/api/v1/query", query, fmt.Errorf("%w: store b", storeapi.ErrPartial), nil, 422, "execution", errorid.PartialRefused},
		{"store is silent", "/api/v1/query", query, fmt.Errorf("%w: %w", storeapi.ErrPartial, storeapi.ErrSilent), nil, 422, "execution", errorid.StoreTimeout},
		{"storage that knows nothing", "/api/v1/query", query, errors.New("x"), nil, 422, "execution", errorid.QueryFailed},
		{"timeout", "/api/v1/query", values("query", "up", "timeout", "0.000001"), nil, nil, 503, "timeout", errorid.QueryTimeout},
		{"unknown path", "/api/v1/nothing", nil, nil, nil, 404, "not_found", errorid.HTTPNotFound},
		{"not ready", "/api/v1/query", query, nil, func(c *Config) { c.Ready = func() error { return errors.New("starting") } }, 503, "unavailable", errorid.NotReady},
		{"invalid tenant", "/api/v1/query", query, nil, func(c *Config) {
			c.Tenant = func(r *http.Request) (ctx context.Context, m *labels.Matcher, err error) {
				return nil, nil, tenant.Validate("..")
			}
		}, 400, "bad_data", errorid.TenantInvalid},
		{"federation limit", "/federate", values("match[]", `{instance=~".+"}`), nil, func(c *Config) { c.Federate.MaxSeries = 1 }, 422, "", errorid.LimitFederate},
		{"federation of nothing", "/federate", nil, nil, nil, 400, "", errorid.QueryInvalid},
		{"remote read without a body", "/api/v1/read", nil, nil, nil, 405, "bad_data", errorid.HTTPMethod},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.change)
			f.spy.failure = c.failure
			resp, body := f.do(http.MethodGet, c.path, c.form)
			require.Equal(t, c.code, resp.StatusCode, body)
			require.Equal(t, c.id.String(), resp.Header.Get(errorid.Header), body)
			if c.id == "" {
				require.NotContains(t, body, "errorId")
				return
			}
			if c.kind == "" {
				require.Regexp(t, `\[`+c.id.String()+`\]\n$`, body)
				return
			}
			var got struct{ Status, ErrorType, Error, ErrorID string }
			require.NoError(t, json.Unmarshal([]byte(body), &got), body)
			require.Equal(t, "error", got.Status)
			require.Equal(t, c.kind, got.ErrorType)
			require.Equal(t, c.id.String(), got.ErrorID)
			_, id := errorid.Split(got.Error)
			require.Equal(t, c.id, id)
			_, known := errorid.Explain(got.ErrorID)
			require.True(t, known)
		})
	}
}
