package compact_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

type status struct {
	Data struct {
		Todo    map[string]int
		Running []struct {
			Kind, Group, Started string
			Blocks               []string
			Samples              int
		}
		Jobs []struct{ Kind, Group, Reason string }
	}
}

func readStatus(t *testing.T, c *compact.Compactor) (s status) {
	t.Helper()
	w := serve(t, c, http.MethodGet, "/api/v1/compact/status", nil)
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &s))
	return s
}

func TestStatus_HasRunningJobsAndPlan(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	var c *compact.Compactor
	var during status
	faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
		if s := readStatus(t, c); len(s.Data.Running) > 0 && s.Data.Running[0].Kind == "merge" && during.Data.Running == nil {
			during = s
		}
		return buckettest.Fault{}
	})
	c = newCompactor(t, bucket.Bucket(faulty))
	require.Empty(t, readStatus(t, c).Data.Running)
	require.NoError(t, c.RunOnce(t.Context()))
	require.NotEmpty(t, during.Data.Running)
	require.NotEmpty(t, during.Data.Running[0].Started)
	require.Contains(t, during.Data.Running[0].Group, `{cluster="eu"}`)
	require.Greater(t, len(during.Data.Running[0].Blocks), 1)
	require.Positive(t, during.Data.Running[0].Samples)
	require.Positive(t, during.Data.Todo["merge"])
	require.NotEmpty(t, during.Data.Jobs[0].Reason)
	require.Empty(t, readStatus(t, c).Data.Running, "all jobs have ended")
}

func TestStatus_LeavesOutEndedJobs(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`)+twoHours(6, "b", `{cluster="us"}`))
	var c *compact.Compactor
	var first, second status
	faulty := buckettest.NewFaulty(b, func(buckettest.Op) buckettest.Fault {
		if s := readStatus(t, c); len(s.Data.Running) == 1 && s.Data.Todo["merge"] == 2 {
			if first.Data.Running == nil {
				first = s
			} else if s.Data.Running[0].Group != first.Data.Running[0].Group {
				second = s
			}
		}
		return buckettest.Fault{}
	})
	c = newCompactor(t, bucket.Bucket(faulty), "--compact.concurrency=1")
	require.NoError(t, c.RunOnce(t.Context()))
	require.Len(t, first.Data.Jobs, 2)
	require.Len(t, second.Data.Running, 1)
	require.Len(t, second.Data.Jobs, 1)
	require.Equal(t, second.Data.Running[0].Group, second.Data.Jobs[0].Group)
}
