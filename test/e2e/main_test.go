// Package e2e runs real processes on loopback: hindsight in all its roles,
// Prometheus, node_exporter and an S3 server.
package e2e

import (
	"flag"
	"fmt"
	"log"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// bin is written once, by TestMain.
var bin harness.Binaries

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("the end-to-end tests are left out with -short")
		return
	}
	dir, err := os.MkdirTemp("", "hindsight-e2e-")
	if err != nil {
		log.Fatal(err)
	}
	if bin, err = harness.Build(dir, os.Stderr); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		log.Print(err)
	}
	os.Exit(code)
}

// newSite makes a site on unused addresses. At the end of the test all running processes
// must stop in order; a failed test prints their logs.
func newSite(t *testing.T) *harness.Site {
	t.Helper()
	s, err := harness.NewSite(t.TempDir(), harness.Host(), bin)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range harness.All() {
				if p := s.Proc(name); p != nil {
					t.Logf("the end of the log of %s:\n%s", name, p.Tail(15))
				}
			}
			s.Kill()
			return
		}
		for _, err := range s.Stop(30 * time.Second) {
			t.Error(err)
		}
	})
	return s
}

// eventually calls f until it returns nil.
func eventually(t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	require.NoError(t, err, "after %s", within)
}
