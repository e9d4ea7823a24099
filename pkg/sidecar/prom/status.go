package prom

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v3"
)

// ExternalLabels reads the external labels of the configuration that the server
// runs with.
func (c *Client) ExternalLabels(ctx context.Context) (labels.Labels, error) {
	var data struct {
		YAML string `json:"yaml"`
	}
	const path = "/api/v1/status/config"
	if _, err := c.api(ctx, http.MethodGet, path, nil, &data); err != nil {
		return labels.EmptyLabels(), err
	}
	var cfg struct {
		Global struct {
			ExternalLabels map[string]string `yaml:"external_labels"`
		} `yaml:"global"`
	}
	if err := yaml.Unmarshal([]byte(data.YAML), &cfg); err != nil {
		return labels.EmptyLabels(), fmt.Errorf("ask %s: parse Prometheus's configuration: %w", path, err)
	}
	return labels.FromMap(cfg.Global.ExternalLabels), nil
}

// Flags returns the server's command line flags by name, with defaults.
func (c *Client) Flags(ctx context.Context) (map[string]string, error) {
	var data map[string]string
	_, err := c.api(ctx, http.MethodGet, "/api/v1/status/flags", nil, &data)
	return data, err
}

// BuildInfo says which program the server is.
type BuildInfo struct {
	Version string `json:"version"`
}

// BuildInfo returns the server's version.
func (c *Client) BuildInfo(ctx context.Context) (BuildInfo, error) {
	var data BuildInfo
	_, err := c.api(ctx, http.MethodGet, "/api/v1/status/buildinfo", nil, &data)
	return data, err
}

// LowestTimestamp returns the time of the oldest sample in milliseconds, rounded
// down to a second. ok is false when the server has no sample yet, or does not
// tell.
func (c *Client) LowestTimestamp(ctx context.Context) (ms int64, ok bool, err error) {
	const op = "read /metrics"
	resp, err := c.do(ctx, op, http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	return lowestTimestamp(&limitedReader{r: resp.Body, left: maxJSONBody})
}

// lowestTimestamp scans a metrics page.
func lowestTimestamp(r io.Reader) (ms int64, ok bool, err error) {
	const metric = "prometheus_tsdb_lowest_timestamp_seconds "
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		v, found := strings.CutPrefix(s.Text(), metric)
		if !found {
			continue
		}
		sec, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		if err != nil {
			return 0, false, fmt.Errorf("read /metrics: parse %s: %w", metric, err)
		}
		// An empty head reports the largest integer.
		if sec >= math.MaxInt64/1000 || sec <= math.MinInt64/1000 {
			return 0, false, nil
		}
		return int64(sec) * 1000, true, nil
	}
	if err := s.Err(); err != nil {
		return 0, false, fmt.Errorf("read /metrics: %w", err)
	}
	return 0, false, nil
}

// Reload asks the server to read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	resp, err := c.do(ctx, "reload through /-/reload", http.MethodPost, "/-/reload", nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
