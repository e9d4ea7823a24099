package sidecar

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// lastLabels keeps the external labels of Prometheus in a file, so that a sidecar that
// starts together with Prometheus can read from disk while Prometheus reads its log.
type lastLabels struct {
	fs vfs.FS
	// dataDir is the data directory of Prometheus, without which nothing is kept.
	dataDir, path string
	// saved are the labels in the file, as far as this process has written them, failed
	// those that it could not write.
	saved, failed labels.Labels
}

// lastLabelsFile is the content of the file.
type lastLabelsFile struct {
	ExternalLabels labels.Labels `json:"external_labels"`
}

func newLastLabels(dataDir, dir string) *lastLabels {
	return &lastLabels{fs: vfs.OS(), dataDir: dataDir, path: filepath.Join(dir, "external-labels.json")}
}

// save replaces the file unless it has these labels, or could not be written with them
// before.
func (l *lastLabels) save(ls labels.Labels) error {
	exists := checkDataDir(l.dataDir) == nil
	if labels.Equal(ls, l.saved) || labels.Equal(ls, l.failed) || !exists {
		return nil
	}
	if err := l.write(ls); err != nil {
		l.failed = ls
		return fmt.Errorf("%w; give a directory that can be written by --tsdb.outage-dir", err)
	}
	l.saved = ls
	return nil
}

func (l *lastLabels) write(ls labels.Labels) error {
	raw, err := json.Marshal(lastLabelsFile{ls})
	if err != nil {
		return fmt.Errorf("keep the external labels: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o750); err != nil {
		return fmt.Errorf("keep the external labels: %w", err)
	}
	if err := vfs.WriteBytes(l.fs, l.path, 0o640, raw); err != nil {
		return fmt.Errorf("keep the external labels: %w", err)
	}
	return nil
}

// load returns what is known of Prometheus from the file; an error if there is none.
func (l *lastLabels) load() (*identity, error) {
	raw, err := l.fs.ReadFile(l.path)
	if err != nil {
		return nil, fmt.Errorf("read the last external labels: %w", err)
	}
	var f lastLabelsFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("read the last external labels in %s: %w", l.path, err)
	}
	if f.ExternalLabels.IsEmpty() {
		return nil, fmt.Errorf("read the last external labels in %s: there are none", l.path)
	}
	return &identity{external: f.ExternalLabels, minTime: math.MinInt64, restored: true}, nil
}
