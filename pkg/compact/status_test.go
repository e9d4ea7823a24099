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
		Jobs []struct{ Kind, Reason string }
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
