package plan_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// faultTests says what shows that a fault which lost data, or stopped compaction, in another
// program does neither here. Each has a text plan in testdata/faults.txt under its number;
// these are the tests, by their package, in which it really happens.
func faultTests() map[string]struct{ what, tests string } {
	return map[string]struct{ what, tests string }{
		"F1":  {"the bucket was down for days, and old blocks are uploaded slowly", "test/e2e TestCompactFaults_ClockSkew, pkg/compact TestRunOnce_PausedOwnerDoesNoHarm"},
		"F2":  {"a compactor sees the upload of another one in progress", "test/e2e TestCompactFaults_Kills, test/e2e TestCompactors_ShareBucketWithKilledAndPausedOnes"},
		"F3":  {"external labels change with each restart", "pkg/compact TestRunOnce_DownsamplesShortBlocksBeforeTheyGo"},
		"F4":  {"a backlog is older than the raw retention", "cmd/hindsight TestToolsBucketRetention, pkg/compact TestRunOnce_KeepsRetention"},
		"F5":  {"a short block with a no-compact mark leaves the raw retention", "pkg/compact TestRunOnce_DownsamplesShortBlocksBeforeTheyGo"},
		"F6":  {"the 5m retention is little longer than the shortest block that gives 1h data", "pkg/compact/plan TestPolicy_RefusesRetentionBelowDownsampling"},
		"F9":  {"a producer compacted by itself during an outage of its uploads", "pkg/shipper TestCompactedOfShipped, pkg/shipper TestSync_ShipsEachSampleOfPrometheus"},
		"F10": {"series were deleted in the producer, and the rest comes under a new name", "pkg/compact TestRunOnce_TakesInLateAndRepeatedBlocks"},
		"F11": {"an object store acknowledges an upload and loses it, or a part", "test/e2e TestCompactFaults_BucketErrors, pkg/compact TestRunOnce_CompletesOtherGroups"},
		"F12": {"the write of a meta.json fails and takes effect later", "test/e2e TestCompactFaults_PausedOwner, pkg/compact TestRunOnce_LostAnswerIsNotWithdrawn"},
		"F13": {"blocks come out of order after a partition", "pkg/compact TestRunOnce_TakesInLateAndRepeatedBlocks"},
		"F14": {"a truncated read is taken for the whole", "test/e2e TestCompactFaults_BucketErrors, pkg/compact/blockmerge TestMerge_ContinuesCutReads"},
		"F15": {"a block is deleted from the bucket while the producer has it", "pkg/shipper TestSync_ShipsVanishedBlocksAgain, pkg/compact TestRunOnce_TakesInLateAndRepeatedBlocks"},
		"F28": {"raw chunks with NaN, empty chunks, resets at the borders of windows", "pkg/compact/downsample TestSeries_FloatsEqualBruteForce, pkg/compact/downsample TestSeries_IsEmptyForStaleMarkers"},
		"F31": {"a wrong replica label, or an HA pair that is merged as copies", "pkg/compact TestMerge_RefusesHAPairAsCopies"},
		"F43": {"a process is killed between the upload of a result and the marks, twice", "test/e2e TestCompactFaults_Kills, pkg/compact TestRunOnce_SurvivesCrashAtEachAccess"},
		"F44": {"two buckets are copied into one", "pkg/compact TestRunOnce_TakesInLateAndRepeatedBlocks"},
		"F45": {"the first data of a cluster never fills a window", "pkg/compact TestRunOnce_DownsamplesShortBlocksBeforeTheyGo"},
	}
}

// TestFaults_HaveTextPlanAndTest checks the table.
func TestFaults_HaveTextPlanAndTest(t *testing.T) {
	text, err := os.ReadFile("testdata/faults.txt")
	require.NoError(t, err)
	plans := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# (F\d+): `).FindAllStringSubmatch(string(text), -1) {
		require.False(t, plans[m[1]], "two plans for %s", m[1])
		plans[m[1]] = true
	}
	table := faultTests()
	require.Len(t, plans, len(table))
	for number, f := range table {
		require.True(t, plans[number], "no text plan for %s: %s", number, f.what)
		for ref := range strings.SplitSeq(f.tests, ", ") {
			dir, name, ok := strings.Cut(ref, " ")
			require.True(t, ok, ref)
			files, err := filepath.Glob(filepath.Join("../../..", filepath.FromSlash(dir), "*_test.go"))
			require.NoError(t, err)
			found := false
			for _, file := range files {
				b, err := os.ReadFile(file)
				require.NoError(t, err)
				found = found || strings.Contains(string(b), "\nfunc "+name+"(")
			}
			require.True(t, found, "%s: there is no test %s", number, ref)
		}
	}
}
