package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// The pages of errors name only flags, metrics and commands that exist.
func TestErrorPages_NameWhatExists(t *testing.T) {
	app := kingpin.New("hindsight", "")
	known := registerAll(app)
	flags := map[string]bool{"help": true}
	var add func(cmds []*kingpin.CmdModel)
	add = func(cmds []*kingpin.CmdModel) {
		for _, c := range cmds {
			for _, f := range c.Flags {
				flags[f.Name] = true
			}
			add(c.Commands)
		}
	}
	add(app.Model().Commands)
	metrics, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	require.NoError(t, err)
	docs := filepath.Join("..", "..", "docs")

	flag := regexp.MustCompile("`--([a-z0-9.-]+)")
	metric := regexp.MustCompile("`(hindsight_[a-z0-9_]+)`")
	tool := regexp.MustCompile("`hindsight (tools [a-z]+(?: [a-z-]+)?)")
	link := regexp.MustCompile(`\]\(([a-z-]+\.md)\)`)
	checked := 0
	for _, p := range errorid.Pages() {
		for _, m := range flag.FindAllStringSubmatch(p.Text, -1) {
			assert.True(t, flags[m[1]], "%s: there is no flag --%s", p.ID, m[1])
			checked++
		}
		for _, m := range metric.FindAllStringSubmatch(p.Text, -1) {
			assert.True(t, strings.Contains(string(metrics), "`"+m[1]+"`"), "%s: docs/metrics.md has no metric %s", p.ID, m[1])
			checked++
		}
		for _, m := range tool.FindAllStringSubmatch(p.Text, -1) {
			assert.True(t, isGroupOrCommand(m[1], known) || isGroupOrCommand(m[1][:strings.LastIndex(m[1], " ")], known) && known[m[1][:strings.LastIndex(m[1], " ")]].name != "",
				"%s: there is no command %q", p.ID, m[1])
			checked++
		}
		for _, m := range link.FindAllStringSubmatch(p.Text, -1) {
			require.FileExists(t, filepath.Join(docs, m[1]))
		}
	}
	require.Greater(t, checked, 150)
}

func TestExplainError(t *testing.T) {
	explain := func(args ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		code = run(t.Context(), append([]string{"tools", "explain-error"}, args...), streams{out: &o, err: &e})
		return code, o.String(), e.String()
	}
	for _, id := range []string{"hs-disk-full", "disk-full", "[hs-disk-full]"} {
		code, out, errs := explain(id)
		require.Zero(t, code, errs)
		require.True(t, strings.HasPrefix(out, "hs-disk-full: a disk is full\n"), out)
		require.Contains(t, out, "--tsdb.min-free-disk")
	}
	code, out, _ := explain()
	require.Zero(t, code)
	require.Equal(t, len(errorid.Pages()), strings.Count(out, "\n"))
	code, _, errs := explain("hs-nothing")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, `there is no error "hs-nothing"`)
	require.True(t, strings.HasSuffix(errs, "(see: hindsight tools explain-error hs-invalid-input)\n"), errs)
}
