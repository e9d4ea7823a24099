package harness

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// The version of Thanos that the tests of test/interop run beside this program. Its go.mod has
// replace directives, so that no go.mod can require it as a program: it is pinned here.
const (
	thanosModule = "github.com/thanos-io/thanos@v0.42.4"
	thanosSum    = "h1:Cs7iARVNKcgewjzAfpoFnscgfNi+XN8slcyW5e0ozWs="
)

// Thanos returns the path of Thanos as a program, which is built once for each version into a
// cache directory. progress gets one line before the build.
func Thanos(progress io.Writer) (string, error) {
	_, version, _ := strings.Cut(thanosModule, "@")
	dir, err := once("thanos-"+version+"-"+runtime.Version(), func(dir string) error {
		fmt.Fprintf(progress, "building Thanos %s into %s (once; takes minutes)\n", version, dir)
		source, err := downloadModule(dir, thanosModule, thanosSum)
		if err != nil {
			return err
		}
		// Thanos shares the memory of label sets with its messages, which needs them as slices.
		if err := goTool(source, progress, "build", "-tags", "slicelabels", "-ldflags", "-s -w", "-o", filepath.Join(dir, "thanos"), "./cmd/thanos"); err != nil {
			return err
		}
		return os.RemoveAll(source)
	})
	return filepath.Join(dir, "thanos"), err
}
