package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/dirlock"
)

// TestRun_RefusesDirectoryInUse starts each role with a data directory that another
// process holds.
func TestRun_RefusesDirectoryInUse(t *testing.T) {
	f := func(holder, sub, flag string, args ...string) {
		t.Helper()
		dir := t.TempDir()
		lock, err := dirlock.Part(filepath.Join(dir, sub), holder)
		require.NoError(t, err)
		defer func() { require.NoError(t, lock.Close()) }()
		args = append(args, "--"+flag+"="+dir, "--http-address=127.0.0.1:0",
			fmt.Sprintf("--objstore.config={type: FILESYSTEM, config: {directory: %q}}", t.TempDir()))
		var out, errs bytes.Buffer
		require.Equal(t, exitUsage, run(t.Context(), args, streams{out: &out, err: &errs}), errs.String())
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		last := lines[len(lines)-1]
		require.Contains(t, last, "error: directory "+filepath.Join(dir, sub)+" is in use by another process")
		require.Contains(t, last, fmt.Sprintf("pid %d", os.Getpid()))
	}
	grpc := "--grpc-address=127.0.0.1:0"
	f("compact", "", "data-dir", "compact")
	f("store", "", "data-dir", "store", grpc)
	f("store", "", "tsdb.path", "receive", grpc, "--remote-write.address=127.0.0.1:0", `--label=a="b"`)
	f("compact", "", "data-dir", "all", grpc)
	f("compact", "compact", "data-dir", "all", grpc)
	f("store", "store", "data-dir", "all", grpc)
}

func TestRun_DryRunBesideCompactor(t *testing.T) {
	dir := t.TempDir()
	lock, err := dirlock.Part(dir, "compact")
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Close()) }()
	var out, errs bytes.Buffer
	args := []string{"compact", "--dry-run", "--data-dir=" + dir, "--http-address=127.0.0.1:0",
		fmt.Sprintf("--objstore.config={type: FILESYSTEM, config: {directory: %q}}", t.TempDir())}
	require.Equal(t, exitOK, run(t.Context(), args, streams{out: &out, err: &errs}), errs.String())
	require.Contains(t, out.String(), "nothing to do")
}
