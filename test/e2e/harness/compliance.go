package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// The suite of the Prometheus project for receivers of remote write. The path in its
// go.mod differs from the path of its repository, so that no go.mod can require it: it
// is pinned here.
const (
	complianceModule = "github.com/prometheus/compliance/remotewrite/receiver@v0.0.0-20260806071727-67b8327a2e93"
	complianceSum    = "h1:VPMEZpXBAlaQrdz+ER6AQ9ArmxkYSy/SxkUixEwtH3Q="
)

// Compliance returns the suite as a program, which is built once into a cache
// directory.
func Compliance(progress io.Writer) (string, error) {
	// The toolchain is a part of the key, as in pins.
	key := "remote-write-receiver-" + complianceModule[len(complianceModule)-12:] + "-" + runtime.Version()
	dir, err := once(key, func(dir string) error {
		fmt.Fprintf(progress, "building the suite for receivers of remote write into %s (once; takes minutes)\n", dir)
		source, err := downloadModule(dir, complianceModule, complianceSum)
		if err != nil {
			return err
		}
		return goTool(source, progress, "test", "-c", "-o", filepath.Join(dir, "suite"), ".")
	})
	return filepath.Join(dir, "suite"), err
}

// downloadModule fetches a pinned module and copies it, because the module cache is
// read-only, and the go.mod of such a module does not allow a build there or elsewhere.
func downloadModule(dir, module, sum string) (source string, err error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("download %s: %w: %s", module, err, out)
	}
	var got struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &got); err != nil {
		return "", fmt.Errorf("download %s: %w", module, err)
	}
	if got.Sum != sum {
		return "", fmt.Errorf("download %s: its sum is %s, not %s", module, got.Sum, sum)
	}
	source = filepath.Join(dir, "source")
	if err := os.RemoveAll(source); err != nil {
		return "", err
	}
	if err := os.CopyFS(source, os.DirFS(got.Dir)); err != nil {
		return "", fmt.Errorf("copy %s: %w", module, err)
	}
	return source, nil
}
