package main

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// fullOutput is a standard output on a full disk.
type fullOutput struct{}

func (fullOutput) Write([]byte) (int, error) {
	return 0, errors.New("write /dev/stdout: no space left on device")
}

// A list that could not be written is a failure, in every form of every command: a script
// would take an empty file for an empty bucket.
func TestTools_FailWhenTheListCannotBeWritten(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	for _, args := range [][]string{
		{"bucket", "ls"}, {"bucket", "ls", "--output=wide"}, {"bucket", "ls", "--output=json"}, {"bucket", "ls", "--output=yaml"}, {"bucket", "ls", "--output={{.ULID}}"},
		{"bucket", "inspect"}, {"bucket", "inspect", "--output=csv"}, {"bucket", "inspect", "--output=tsv"}, {"bucket", "inspect", "--output=yaml"},
		{"bucket", "verify"}, {"bucket", "cost"}, {"bucket", "cleanup"}, {"bucket", "retention"}, {"bucket", "delete-series", "--list"},
		{"bucket", "delete-series", "--match=up", "--dry-run"}, {"bucket", "mark", "--id=" + id("a"), "--marker=no-compact-mark.json", "--details=x"},
		{"bucket", "downsample", "--data-dir=" + t.TempDir()}, {"block", "analyze", id("a")}, {"doctor"}, {"recover"},
	} {
		var errs bytes.Buffer
		code := run(t.Context(), append(append([]string{"tools"}, args...), "--objstore.config="+s.yml), streams{out: fullOutput{}, err: &errs})
		require.NotEqual(t, exitOK, code, "%v", args)
		require.Contains(t, errs.String(), "no space left on device", "%v", args)
		require.Contains(t, errs.String(), "explain-error hs-", "%v", args)
	}
}

// Each mistake is one line that names the flag, with exit code 2, and changes nothing.
func TestToolsBucket_MistakesNameTheFlag(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	before := s.tree()
	between := []string{"--min-time=2026-01-02T00:00:00Z", "--max-time=2026-01-01T00:00:00Z"}
	to := "--objstore-to.config=" + s.yml
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--max-time=2026-01-01T00:00:00Z is before --min-time=2026-01-02T00:00:00Z", append([]string{"ls"}, between...)},
		{"is before --min-time", append([]string{"cost"}, between...)},
		{"is before --min-time", append([]string{"web"}, between...)},
		{"is before --min-time", append([]string{"replicate", "--single-run", to}, between...)},
		{"is the bucket that is copied from", []string{"replicate", "--single-run", to}},
		{"--output: template", []string{"ls", "--output={{.Nope}}"}},
		{"deletion 1: matchers={a=b}", []string{"rewrite", "--id=" + id("a"), "--rewrite.to-delete-config=[{matchers: '{a=b}'}]"}},
		{`--top: "x" is not a number`, []string{"cost", "--top=x"}},
		{"exclude each other", []string{"delete-series", "--match=up", "--yes", "--dry-run"}},
	} {
		code, _, errs := s.run(c.args...)
		require.Equal(t, exitUsage, code, "%v: %s", c.args, errs)
		require.Contains(t, errs, c.want, "%v", c.args)
		require.Regexp(t, "^[^\n]+ [(]see: .*hindsight tools explain-error hs-[a-z-]+[)]\n$", errs)
	}
	require.Equal(t, before, s.tree())
	code, _, errs := s.run("inspect", "--timeout=1ns")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "not done in --timeout=1ns")
}
