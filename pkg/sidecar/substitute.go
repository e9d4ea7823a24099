package sidecar

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// substitute replaces the output file, if one is configured, when its content
// differs.
func (r *reloader) substitute() error {
	if r.config.EnvsubstFile == "" {
		return nil
	}
	raw, err := readConfig(r.config.ConfigFile)
	if err != nil {
		return err
	}
	out, unset := flags.ExpandSetEnv(raw)
	slices.Sort(unset)
	unset = slices.Compact(unset)
	r.metrics.unset.Set(float64(len(unset)))
	if len(unset) > 0 && !r.config.TolerateUnset {
		return fmt.Errorf("substitute in %s: environment variables are not set: %s; set them, or give --reloader.tolerate-unset-variables",
			r.config.ConfigFile, strings.Join(unset, ", "))
	}
	if !slices.Equal(unset, r.unset) {
		r.unset = unset
		r.logger.Warn("environment variables of the configuration are not set", "file", r.config.ConfigFile, "variables", unset)
	}
	if old, err := r.fs.ReadFile(r.config.EnvsubstFile); err == nil && bytes.Equal(old, out) {
		return nil
	}
	// Prometheus may run as another user, so all users may read the file.
	if err := vfs.WriteBytes(r.fs, r.config.EnvsubstFile, 0o644, out); err != nil {
		return fmt.Errorf("write the substituted configuration: %w", err)
	}
	return nil
}

// maxConfigFile bounds a decompressed configuration file.
const maxConfigFile = 256 << 20

// readConfig reads a configuration file, which may be compressed with gzip.
func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	var magic [2]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var r io.Reader = io.MultiReader(bytes.NewReader(magic[:n]), f)
	if magic == [2]byte{0x1f, 0x8b} {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, fmt.Errorf("decompress %s: %w", name, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(r, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxConfigFile {
		return nil, fmt.Errorf("read %s: larger than %d bytes", name, maxConfigFile)
	}
	return b, nil
}
