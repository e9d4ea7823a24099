package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// One round of a real run, so that everyday tests find a change that breaks the soak
// test itself.
func TestSite_SurvivesOneRound(t *testing.T) {
	if testing.Short() {
		t.Skip("starts fourteen processes")
	}
	dir := t.TempDir()
	bin, err := harness.Build(dir, os.Stderr)
	require.NoError(t, err)
	var out bytes.Buffer
	err = do(t.Context(), config{seed: 3, lasts: time.Minute, rounds: 1, warm: time.Second, dir: dir, bin: bin, out: &out})
	t.Log(out.String())
	require.NoError(t, err)
	require.Contains(t, out.String(), "samples acknowledged")
}
