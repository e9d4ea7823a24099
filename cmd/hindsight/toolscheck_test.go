package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// checkTool runs tools check in dir and returns its rows by file.
func checkTool(t *testing.T, want int, args ...string) map[string]checkRow {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), append([]string{"tools", "check", "--output=json"}, args...), streams{out: &out, err: &errs})
	require.Equal(t, want, code, out.String()+errs.String())
	var rows []checkRow
	require.NoError(t, json.Unmarshal(out.Bytes(), &rows), out.String())
	byFile := map[string]checkRow{}
	for _, r := range rows {
		byFile[filepath.Base(r.File)] = r
	}
	return byFile
}

func TestToolsCheck_RecognisesAndChecksEachKind(t *testing.T) {
	dir := t.TempDir()
	good := map[string]string{
		"objstore":        "type: s3\nconfig: {bucket: blocks, endpoint: 'localhost:1', access_key: a, secret_key: $(TOOLS_CHECK_NOT_SET)}",
		"tracing":         "type: OTLP\nconfig: {client_type: grpc, endpoint: 'localhost:1'}",
		"index-cache":     "type: IN-MEMORY\nconfig: {max_size: 1GB}",
		"hashring":        `[{"hashring": "h", "endpoints": ["a:1", {"address": "b:1"}]}]`,
		"limits":          "write: {default: {head_series_limit: 5}}",
		"query-limits":    "query: {default: {max_samples: 5}}",
		"endpoints":       "endpoints: [{address: 'a:1', strict: true}]",
		"targets":         "[{targets: ['a:1']}]",
		"relabel":         "[{target_label: a, replacement: b}]",
		"retention":       "rules: [{tenant: a, raw: 15d}]",
		"deletions":       "[{matchers: '{a=\"b\"}', intervals: [{mint: 5, maxt: 7}]}]",
		"web":             "basic_auth_users: {a: $2y$10$CwTycUXWue0Thq9StjUM0u1K1pWf0vHbO6r3XfHxgM8b1A3T3oVGe}",
		"http-client":     "basic_auth: {username: a, password: b}",
		"rules":           "groups: [{name: g, rules: [{record: 'a:b', expr: sum(b)}]}]",
		"request-logging": "options: {level: INFO}",
	}
	bad := map[string]string{
		"objstore":        "type: S3\nconfig: {bucket: blocks, endpoit: x}",
		"tracing":         "type: JAEGER\nconfig: {}",
		"index-cache":     "type: REDIS\nconfig: {}",
		"hashring":        `[{"hashring": "h", "endpoints": []}]`,
		"limits":          "write: {default: {head_serie_limit: 5}}",
		"query-limits":    "query: {default: {max_samples: -5}}",
		"endpoints":       "endpoints: [{adress_: 'a:1'}]",
		"targets":         "[{targets: [5], lables: {}}]",
		"relabel":         "[{action: replace, target_label: a}, null]",
		"retention":       "rules: [{tenant: a}]",
		"deletions":       "[{matchers: '{a=\"b\"}', intervals: [{mint: 8, maxt: 7}]}]",
		"web":             "basic_auth_users: {a: plain}",
		"http-client":     "basic_auth: {username: a}\nbearer_token: b",
		"request-logging": "options: {level: info, decision: {log_end: true}}",
		"rules":           "groups: [{name: g, rules: [{record: 'a:b', expr: sum(}]}]",
	}
	for kind, text := range good {
		require.NoError(t, os.WriteFile(filepath.Join(dir, kind+".yml"), []byte(text), 0o600))
	}
	rows := checkTool(t, exitOK, dir)
	require.Len(t, rows, len(good))
	for kind := range good {
		require.Equal(t, []string{kind, checkOK}, []string{rows[kind+".yml"].Kind, rows[kind+".yml"].Result}, rows[kind+".yml"].Details)
	}
	require.Contains(t, rows["objstore.yml"].Details, "TOOLS_CHECK_NOT_SET")

	for kind, text := range bad {
		require.NoError(t, os.WriteFile(filepath.Join(dir, kind+".yml"), []byte(text), 0o600))
	}
	rows = checkTool(t, exitFailed, filepath.Join(dir, "*.yml"))
	for kind := range bad {
		require.Equal(t, []string{kind, checkInvalid}, []string{rows[kind+".yml"].Kind, rows[kind+".yml"].Result}, kind)
		require.NotEmpty(t, rows[kind+".yml"].Details)
	}
	require.Contains(t, rows["objstore.yml"].Details, `line 2`)
	require.Contains(t, rows["relabel.yml"].Details, "rule 2 is empty")
}

func TestToolsCheck_KindsByNameAndFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	choose := file("choose.yml", "[{action: replace, target_label: a}]")
	require.Equal(t, checkOK, checkTool(t, exitOK, choose)["choose.yml"].Result)
	require.Contains(t, checkTool(t, exitFailed, "selector="+choose)["choose.yml"].Details, "cannot choose")
	require.Equal(t, checkUnknown, checkTool(t, exitFailed, file("other.yml", "scrape_configs: []"))["other.yml"].Result)
	require.Equal(t, checkInvalid, checkTool(t, exitFailed, file("empty.yml", ""))["empty.yml"].Result)
	require.Equal(t, checkInvalid, checkTool(t, exitFailed, file("syntax.yml", "a: [b"))["syntax.yml"].Result)
	require.Equal(t, checkUnreadable, checkTool(t, exitUsage, filepath.Join(dir, "none.yml"))["none.yml"].Result)
	require.Equal(t, checkUnreadable, checkTool(t, exitUsage, file("huge.yml", strings.Repeat("#\n", maxConfigFile)))["huge.yml"].Result)
}

func TestToolsRulesCheck(t *testing.T) {
	rules := filepath.Join(t.TempDir(), "r.yml")
	check := func(text string) (int, string) {
		require.NoError(t, os.WriteFile(rules, []byte(text), 0o600))
		var out, errs bytes.Buffer
		return run(t.Context(), []string{"tools", "rules-check", "--rules=" + rules}, streams{out: &out, err: &errs}), out.String()
	}
	code, _ := check("groups: [{name: g, rules: [{alert: a, expr: up == 0}]}]")
	require.Equal(t, exitOK, code)
	code, out := check("groups: [{name: g, rules: [{alert: a, expr: up ==}]}]")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "invalid")
}
