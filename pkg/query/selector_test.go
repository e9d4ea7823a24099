package query

import (
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestStoreFilter_SelectsByRelabelling(t *testing.T) {
	cfg := Config{SelectorRelabel: flags.Inline("selector.relabel-config", `
- {action: drop, source_labels: [cluster], regex: "us.*"}
`)}
	rules, err := cfg.selector()
	require.NoError(t, err)
	filter := storeFilter(rules)
	f := func(want string, sets ...labels.Labels) {
		t.Helper()
		ms, ok := filter(storeapi.Info{LabelSets: sets})
		if !ok {
			require.Equal(t, want, "not asked")
			return
		}
		require.Equal(t, want, fmt.Sprint(ms))
	}
	eu, us := labels.FromStrings("cluster", "eu.1"), labels.FromStrings("cluster", "us")
	f("[]")
	f("[]", eu)
	f("not asked", us)
	f(`[cluster=~"eu\\.1"]`, eu, us)
	f(`[cluster=~"eu\\.1" zone=~"^$|z"]`, eu, us, labels.FromStrings("cluster", "eu.1", "zone", "z"))
	require.Nil(t, storeFilter(nil))
}

func TestStoreFilter_RejectsInvalidConfiguration(t *testing.T) {
	bad := func(want, content string) {
		t.Helper()
		_, err := parseConfig("--selector.relabel-config=" + content)
		require.ErrorContains(t, err, want)
		require.True(t, flags.IsInvalid(err))
	}
	bad(`rule 1: action "labeldrop" cannot choose stores (use keep, drop or hashmod)`, "- {action: labeldrop, regex: a}")
	bad("rule 1 is empty", "- ")
	bad("--selector.relabel-config", "{")
}

func TestSelectedStores_AreQueriedOnly(t *testing.T) {
	a, b, us := haPair(t)
	q := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--endpoint="+us.addr,
		"--selector.relabel-config=- {action: keep, source_labels: [cluster], regex: us}")
	got, ans := q.vector("count(up)", "time", now, "partial_response", "false")
	require.Equal(t, "{}=1", got, ans.Error)
	b.kill()
	_, ans = q.vector("count(up)", "time", now, "partial_response", "false")
	require.Equal(t, 200, ans.code, "the store that is not selected is not missed")
}
