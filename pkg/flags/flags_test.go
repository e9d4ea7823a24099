package flags

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/stretchr/testify/require"
)

func parse(t *testing.T, register func(Registrar), args ...string) error {
	t.Helper()
	app := kingpin.New("test", "")
	app.Terminate(nil)
	register(app)
	_, err := app.Parse(args)
	return err
}

func TestDuration(t *testing.T) {
	f := func(in string, want time.Duration, ok bool) {
		t.Helper()
		var d Duration
		err := d.Set(in)
		require.Equal(t, ok, err == nil, "%q: %v", in, err)
		if ok {
			require.Equal(t, want, d.Duration())
		}
	}
	f("15d", 15*24*time.Hour, true)
	f("2h30m", 150*time.Minute, true)
	f("0s", 0, true)
	f("1.5h", 0, false)
	f("", 0, false)
}

func TestTimeOrDuration(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	f := func(in, want string) {
		t.Helper()
		var v TimeOrDuration
		require.NoError(t, v.Set(in))
		at, err := time.Parse(time.RFC3339, want)
		require.NoError(t, err)
		require.Equal(t, at.UnixMilli(), v.Millis(now))
	}
	f("2020-02-03T04:05:06Z", "2020-02-03T04:05:06Z")
	f("-6h", "2026-01-02T06:00:00Z")
	f("1d", "2026-01-03T12:00:00Z")
	var v TimeOrDuration
	require.Error(t, v.Set("yesterday"))
}

func TestLabelSet(t *testing.T) {
	var ls LabelSet
	err := parse(t, func(r Registrar) { r.Flag("label", "").SetValue(&ls) }, `--label=b="2"`, `--label=a="x\"y"`)
	require.NoError(t, err)
	require.Equal(t, `{a="x\"y", b="2"}`, ls.Labels().String())
	require.ErrorContains(t, new(LabelSet).Set("a=b"), "not a quoted string")
	require.ErrorContains(t, new(LabelSet).Set("a"), "name=\"value\"")
	require.ErrorContains(t, ls.Set(`a="again"`), "twice")
}

func TestList(t *testing.T) {
	var l List
	err := parse(t, func(r Registrar) { r.Flag("l", "").SetValue(&l) }, "--l=a,b", "--l=c")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c"}, l.Values())
}

func TestPathOrContent(t *testing.T) {
	t.Setenv("FLAGS_TEST_SECRET", "s3cret")
	file := filepath.Join(t.TempDir(), "c.yml")
	require.NoError(t, os.WriteFile(file, []byte("key: $(FLAGS_TEST_SECRET)"), 0o600))

	var p PathOrContent
	require.NoError(t, parse(t, func(r Registrar) { p.Register(r, "x", "things", true) }, "--x-file="+file))
	got, err := p.Content()
	require.NoError(t, err)
	require.Equal(t, "key: s3cret", string(got))

	both := PathOrContent{}
	require.NoError(t, parse(t, func(r Registrar) { both.Register(r, "x", "things", true) }, "--x-file="+file, "--x=a"))
	_, err = both.Content()
	require.True(t, IsInvalid(err))
	require.ErrorContains(t, err, "--x-file and --x are both given")

	missing := Inline("x", "$(FLAGS_TEST_NOT_SET)")
	missing.expand = true
	_, err = missing.Content()
	require.ErrorContains(t, err, "FLAGS_TEST_NOT_SET")
}
