package dirlock_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/dirlock"
)

func TestPart_RefusesSameRole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")
	first, err := dirlock.Part(dir, "compact")
	require.NoError(t, err)

	_, err = dirlock.Part(dir, "compact")
	var used *dirlock.InUseError
	require.ErrorAs(t, err, &used)
	require.Contains(t, err.Error(), dir)
	require.Contains(t, err.Error(), fmt.Sprintf("hindsight compact, pid %d", os.Getpid()))
	require.NotContains(t, err.Error(), "\n")

	require.NoError(t, first.Close())
	again, err := dirlock.Part(dir, "compact")
	require.NoError(t, err, "a released directory can be locked although the file is still there")
	require.NoError(t, again.Close())
}

func TestPart_SharesWithOtherRoles(t *testing.T) {
	dir := t.TempDir()
	compact, err := dirlock.Part(dir, "compact")
	require.NoError(t, err)
	store, err := dirlock.Part(dir, "store")
	require.NoError(t, err)

	_, err = dirlock.Whole(dir, "receive")
	var used *dirlock.InUseError
	require.ErrorAs(t, err, &used)
	require.Contains(t, used.Holder, "hindsight compact")
	require.Contains(t, used.Holder, "hindsight store")
	require.NoError(t, errors.Join(compact.Close(), store.Close()))
}

func TestWhole_RefusesEveryOther(t *testing.T) {
	dir := t.TempDir()
	l, err := dirlock.Whole(dir, "receive")
	require.NoError(t, err)
	var used *dirlock.InUseError
	_, err = dirlock.Part(dir, "store")
	require.ErrorAs(t, err, &used)
	require.Contains(t, used.Holder, "hindsight receive")
	_, err = dirlock.Whole(dir, "all")
	require.ErrorAs(t, err, &used)
	require.NoError(t, l.Close())
	require.NoError(t, l.Close(), "closing twice does nothing")
}

// helperDir makes the test binary a process that locks the directory and waits.
const helperDir = "DIRLOCK_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(helperDir); dir != "" {
		if _, err := dirlock.Whole(dir, "receive"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("locked")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until it is killed
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestWhole_KilledHolderLeavesNoLock(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := make([]byte, len("locked"))
	_, err = out.Read(said)
	require.NoError(t, err)
	require.Equal(t, "locked", string(said))

	_, err = dirlock.Whole(dir, "receive")
	var used *dirlock.InUseError
	require.ErrorAs(t, err, &used)
	require.Contains(t, used.Holder, fmt.Sprintf("pid %d", cmd.Process.Pid))

	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	l, err := dirlock.Whole(dir, "receive")
	require.NoError(t, err)
	require.NoError(t, l.Close())
}
