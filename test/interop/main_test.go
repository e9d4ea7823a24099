// Package interop runs processes of this program beside processes of Thanos and compares their
// answers: the same question to both has the same answer, or docs/migrate-from-thanos.md names
// the difference.
//
// The tests need a build of Thanos, which takes minutes, so make interop runs them, and
// make test leaves them out.
package interop

import (
	"flag"
	"fmt"
	"log"
	"os"
	"testing"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// bin and thanosBin are written once, by TestMain.
var (
	bin       harness.Binaries
	thanosBin string
)

// TestMain leaves all tests out unless the environment asks for them: HINDSIGHT_INTEROP=1 runs
// them beside a build of Thanos that is made once, HINDSIGHT_INTEROP=<path> beside that program.
func TestMain(m *testing.M) {
	flag.Parse()
	want := os.Getenv("HINDSIGHT_INTEROP")
	if want == "" {
		fmt.Println("the tests beside Thanos are left out: make interop runs them")
		return
	}
	dir, err := os.MkdirTemp("", "hindsight-interop-")
	if err != nil {
		log.Fatal(err)
	}
	if bin, err = harness.Build(dir, os.Stderr); err != nil {
		log.Fatal(err)
	}
	if thanosBin = want; want == "1" {
		if thanosBin, err = harness.Thanos(os.Stderr); err != nil {
			log.Fatal(err)
		}
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		log.Print(err)
	}
	os.Exit(code)
}
