package main

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestToolsBucket_AuditsEachChange expects a line for each change of the bucket that
// deletes or hides data, and none for commands that only look or find nothing to do.
func TestToolsBucket_AuditsEachChange(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	audit := regexp.MustCompile(`level=warn msg=audit command="tools bucket \S+" user=\S+ host=\S+ action=(\S+) object=(\S+) .*result=success`)
	lines := func(want int, args ...string) (out []string) {
		code, _, errs := s.run(args...)
		require.Equal(t, want, code, errs)
		for _, m := range audit.FindAllStringSubmatch(errs, -1) {
			out = append(out, m[1]+" "+m[2])
		}
		return out
	}
	require.Equal(t, []string{"mark_block " + id("a") + "/no-compact-mark.json"}, lines(exitOK, "mark", "--id="+id("a"), "--marker=no-compact-mark.json", "--details=x"))
	require.Empty(t, lines(exitOK, "mark", "--id="+id("a"), "--marker=no-compact-mark.json", "--details=x"), "it has the mark")
	require.Equal(t, []string{"unmark_block " + id("a") + "/no-compact-mark.json"}, lines(exitOK, "mark", "--id="+id("a"), "--marker=no-compact-mark.json", "--remove"))
	require.Empty(t, lines(exitOK, "cleanup", "--dry-run", "--delete-delay=0s", "--consistency-delay=0s"))
	require.Equal(t, []string{"delete_block " + id("b") + "/meta.json"}, lines(exitOK, "cleanup", "--yes", "--delete-delay=0s", "--consistency-delay=0s"), "its mark goes with it")
	require.Empty(t, lines(exitOK, "verify"))
	asked := lines(exitOK, "delete-series", `--match={job="j"}`, "--yes")
	require.Len(t, asked, 1)
	require.Regexp(t, `^delete_series hindsight/deletions/(\w+)/request.json$`, asked[0])
	request := regexp.MustCompile(`\w{26}`).FindString(asked[0])
	require.Equal(t, []string{"cancel_deletion hindsight/deletions/" + request + "/cancelled.json"}, lines(exitOK, "delete-series", "--cancel="+request))
}
