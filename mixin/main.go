// Command mixin writes the dashboards, alerts, recording rules and runbooks of Hindsight
// from one description, which is this package:
//
//	go run ./mixin
//
// The results are committed: mixin/dashboards/*.json for Grafana, mixin/alerts.yaml and
// mixin/rules.yaml for Prometheus, and docs/runbooks/*.md. A test fails when they are
// stale.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := write("."); err != nil {
		fmt.Fprintln(os.Stderr, "mixin:", err)
		os.Exit(1)
	}
}

// write writes all files below root, the directory of the repository. It removes the
// files of dashboards and alerts that are gone.
func write(root string) error {
	files, err := generate()
	if err != nil {
		return err
	}
	for _, pattern := range []string{"mixin/dashboards/*.json", "docs/runbooks/*.md"} {
		old, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("list generated files: %w", err)
		}
		for _, path := range old {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove a generated file: %w", err)
			}
		}
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make a directory for generated files: %w", err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write a generated file: %w", err)
		}
	}
	return nil
}

// generate returns the content of each generated file by its path from the root of the
// repository.
func generate() (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, d := range dashboards() {
		content, err := d.json()
		if err != nil {
			return nil, fmt.Errorf("dashboard %s: %w", d.title, err)
		}
		files["mixin/dashboards/"+d.uid+".json"] = content
	}
	alerts, err := alertFile(alertGroups())
	if err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	files["mixin/alerts.yaml"] = alerts
	rules, err := recordFile(records())
	if err != nil {
		return nil, fmt.Errorf("recording rules: %w", err)
	}
	files["mixin/rules.yaml"] = rules
	for _, g := range alertGroups() {
		for _, a := range g.alerts {
			files["docs/runbooks/"+a.name+".md"] = a.runbook()
		}
	}
	files["docs/runbooks/README.md"] = runbookIndex(alertGroups())
	return files, nil
}
