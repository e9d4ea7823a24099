package receive

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestReload_SwitchesWhatIsRightAndKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	limits := write("limits.yml", "write: {default: {head_series_limit: 1}}")
	rules := write("relabel.yml", "- {target_label: a, replacement: one}")
	var cfg Config
	app := kingpin.New("test", "").Terminate(nil)
	cfg.RegisterFlags(app)
	_, err := app.Parse([]string{
		"--tsdb.path=" + dir, `--label=a="b"`, "--receive.limits-config-file=" + limits, "--receive.relabel-config-file=" + rules,
	})
	require.NoError(t, err)
	r, err := New(cfg, Deps{Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	active := func() int64 { return r.limits.For("x").ActiveSeries }
	require.EqualValues(t, 1, active())

	write("limits.yml", "write: {default: {head_series_limit: 2}}")
	write("relabel.yml", "- {target_lable: a}")
	require.ErrorContains(t, r.Reload(t.Context()), `unknown key "target_lable"`)
	require.EqualValues(t, 2, active(), "limits are right and switch")
	require.Equal(t, "one", (*r.relabel.Load())[0].Replacement)

	write("limits.yml", "write: {default: {head_series_limt: 3}}")
	write("relabel.yml", "- {target_label: a, replacement: two}")
	require.ErrorContains(t, r.Reload(t.Context()), `unknown key "head_series_limt"`)
	require.EqualValues(t, 2, active())
	require.Equal(t, "two", (*r.relabel.Load())[0].Replacement)
}
