package requestlog

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse_ReplacesTheGlobalOptions(t *testing.T) {
	c, err := Parse([]byte(`
options: {level: INFO, decision: {log_start: true, log_end: true}}
http:
  options: {level: ERROR, decision: {log_end: true}}
  config: [{path: /api/v1/query, port: 10904}, {path: "/api/v1/series?x=1"}]
grpc:
  config: [{service: thanos.Store, method: Series}]
`))
	require.NoError(t, err)
	require.Equal(t, rule{end: true, level: slog.LevelError}, c.http)
	require.Equal(t, rule{start: true, end: true, level: slog.LevelInfo}, c.grpc)
	require.Equal(t, []httpMatch{{Path: "/api/v1/query", Port: 10904}, {Path: "/api/v1/series?x=1"}}, c.httpOnly)
	require.Equal(t, map[string]bool{"/thanos.Store/Series": true}, c.grpcOnly)
}

func TestParse_LogsNothingWithoutOptions(t *testing.T) {
	for _, text := range []string{"", "http: {}", "options: {}", "http: {config: [{path: /x, port: 1}]}", "options: {level: DEBUG}"} {
		c, err := Parse([]byte(text))
		require.NoError(t, err, text)
		require.False(t, c.http.logs() || c.grpc.logs(), text)
	}
}

func TestParse_RefusesMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"options: {decision: {log_end: true}}":                        `options.level is ""`,
		"options: {level: info, decision: {log_end: true}}":           `options.level is "info"`,
		"http: {options: {level: INFO, decision: {log_start: true}}}": "http.options.decision: log_start needs log_end",
		"grpc: {options: {level: TRACE}}":                             "grpc.options.level",
		"http: {config: [{path: api, port: 1}]}":                      "http.config[0]: path",
		"http: {config: [{path: /api, port: 70000}]}":                 "line 1",
		"grpc: {config: [{service: thanos.Store}]}":                   "grpc.config[0]: service and method",
		"htp: {}": "htp",
		"options: {level: INFO, decision: {log_end: true}}\n---\noptions: {}": "second document",
	} {
		_, err := Parse([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}
