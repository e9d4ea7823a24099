package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/doctor"
)

func TestToolsDoctor(t *testing.T) {
	yml := "type: FILESYSTEM\nconfig:\n  directory: " + t.TempDir()
	diagnose := func(args ...string) (code int, out, errs string) {
		var stdout, stderr bytes.Buffer
		code = run(t.Context(), append([]string{"tools", "doctor", "--objstore.config=" + yml}, args...), streams{out: &stdout, err: &stderr})
		return code, stdout.String(), stderr.String()
	}
	code, out, errs := diagnose()
	require.Equal(t, exitOK, code, errs)
	require.Equal(t, "no findings\n", out)
	code, out, _ = diagnose("--output=json")
	require.Equal(t, exitOK, code)
	require.JSONEq(t, `{"findings": []}`, out)

	bkt, err := provider.Open(t.Context(), []byte(yml), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	blocktest.Fill(t, bkt, `
meta a range=0h..2h labels={cluster="eu"} samples=10 level=1
meta b range=0h..2h labels={cluster="eu"} samples=11 level=1
meta c range=0h..2h labels={cluster="us"} samples=10 level=1
meta d range=0h..2h labels={cluster="us"} samples=11 level=1
mark d deletion at=3h
`)
	code, out, errs = diagnose()
	require.Equal(t, 1, code)
	require.Contains(t, out, `error    equal_labels       {cluster="eu"}`)
	require.NotContains(t, out, `{cluster="us"}`, "the other block is marked for deletion")
	require.Equal(t, "hindsight tools doctor: error: findings: 1 (see: hindsight tools explain-error hs-problems-found)\n", errs)

	var got struct{ Findings []doctor.Finding }
	_, out, _ = diagnose("--output=json")
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Equal(t, "equal_labels", got.Findings[0].Kind)
	fromJSON := got
	_, out, _ = diagnose("--output=yaml")
	got.Findings = nil
	require.NoError(t, yaml.Unmarshal([]byte(out), &got))
	require.Equal(t, fromJSON, got)

	code, out, _ = diagnose("--endpoint=127.0.0.1:1", "--prometheus.url=http://127.0.0.1:1", "--timeout=50ms")
	require.Equal(t, 1, code)
	require.Contains(t, out, "store_unreachable")
	require.Contains(t, out, "prometheus_unreachable")

	var stderr bytes.Buffer
	require.Equal(t, exitUsage, run(t.Context(), []string{"tools", "doctor"}, streams{out: &stderr, err: &stderr}), "without a bucket it cannot look")
	require.Contains(t, stderr.String(), "no bucket is configured")
}
