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
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v3"
)

// ExternalLabels reads the external labels of the configuration that the server
// runs with.
func (c *Client) ExternalLabels(ctx context.Context) (labels.Labels, error) {
	var cfg struct {
		Global struct {
			ExternalLabels map[string]string `yaml:"external_labels"`
		} `yaml:"global"`
	}
	if err := c.configuration(ctx, &cfg); err != nil {
		return labels.EmptyLabels(), err
	}
	return labels.FromMap(cfg.Global.ExternalLabels), nil
}

// OutOfOrderWindow reads how much older than the highest time in the head a sample
// may be, in milliseconds; 0 means that samples must come in order.
func (c *Client) OutOfOrderWindow(ctx context.Context) (int64, error) {
	var cfg struct {
		Storage struct {
			TSDB struct {
				Window model.Duration `yaml:"out_of_order_time_window"`
			} `yaml:"tsdb"`
		} `yaml:"storage"`
	}
	err := c.configuration(ctx, &cfg)
	return time.Duration(cfg.Storage.TSDB.Window).Milliseconds(), err
}

// configuration reads the parts that cfg has of the configuration that the server
// runs with.
func (c *Client) configuration(ctx context.Context, cfg any) error {
	var data struct {
		YAML string `json:"yaml"`
	}
	const path = "/api/v1/status/config"
	if _, err := c.api(ctx, http.MethodGet, path, nil, &data); err != nil {
		return err
	}
	if err := yaml.Unmarshal([]byte(data.YAML), cfg); err != nil {
		return fmt.Errorf("ask %s: parse Prometheus's configuration: %w", path, err)
	}
	return nil
}

// Flags returns the server's command line flags by name, with defaults.
func (c *Client) Flags(ctx context.Context) (map[string]string, error) {
	var data map[string]string
	_, err := c.api(ctx, http.MethodGet, "/api/v1/status/flags", nil, &data)
	return data, err
}

// Times are bounds of the samples that the server holds, in milliseconds. They are
// math.MinInt64 when it has no sample yet or does not report them.
type Times struct {
	// Lowest is the time of the oldest sample, rounded down to a second.
	Lowest int64
	// HeadMin is the lowest time in the head: all samples before it are in
	// blocks.
	HeadMin int64
	// HeadMax is the highest time in the head. It never falls while the server
	// runs.
	HeadMax int64
	// Started is the start of the process, 0 when unknown.
	Started int64
}

// Times reads the bounds from the server's own metrics.
func (c *Client) Times(ctx context.Context) (Times, error) {
	const op = "read /metrics"
	resp, err := c.do(ctx, op, http.MethodGet, "/metrics", nil)
	if err != nil {
		return Times{}, err
	}
	defer resp.Body.Close()
	t, err := scanTimes(&limitedReader{r: resp.Body, left: maxJSONBody})
	if err != nil {
		return Times{}, fmt.Errorf("%s: %w", op, err)
	}
	return t, nil
}

// scanTimes reads a metrics page.
func scanTimes(r io.Reader) (Times, error) {
	t := Times{Lowest: math.MinInt64, HeadMin: math.MinInt64, HeadMax: math.MinInt64}
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		name, value, _ := strings.Cut(s.Text(), " ")
		unit := 1.0
		to := &t.HeadMin
		switch name {
		case "prometheus_tsdb_head_min_time":
		case "prometheus_tsdb_head_max_time":
			to = &t.HeadMax
		case "process_start_time_seconds":
			to, unit = &t.Started, 1000
		case "prometheus_tsdb_lowest_timestamp_seconds":
			to, unit = &t.Lowest, 1000
		default:
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return t, fmt.Errorf("parse %s: %w", name, err)
		}
		// An empty head reports the largest integer, a broken one the smallest.
		if v *= unit; math.Abs(v) < 1<<53 {
			*to = int64(v)
		}
	}
	return t, s.Err()
}

// Block is one block that the server has loaded. MaxTime is exclusive.
type Block struct {
	ULID    ulid.ULID `json:"ulid"`
	MinTime int64     `json:"minTime"`
	MaxTime int64     `json:"maxTime"`
}

// Blocks lists the blocks that the server has loaded. Old servers answer with
// the status 404.
func (c *Client) Blocks(ctx context.Context) ([]Block, error) {
	var data struct {
		Blocks []Block `json:"blocks"`
	}
	_, err := c.api(ctx, http.MethodGet, "/api/v1/status/tsdb/blocks", nil, &data)
	return data.Blocks, err
}

// Reload asks the server to read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	resp, err := c.do(ctx, "reload through /-/reload", http.MethodPost, "/-/reload", nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ReloadState is the result of the last reload of the server's configuration.
type ReloadState struct {
	Success bool `json:"reloadConfigSuccess"`
	// Time is that of the last successful one, in whole seconds.
	Time time.Time `json:"lastConfigTime"`
}

// ReloadState reads the result of the last reload.
func (c *Client) ReloadState(ctx context.Context) (ReloadState, error) {
	var data ReloadState
	_, err := c.api(ctx, http.MethodGet, "/api/v1/status/runtimeinfo", nil, &data)
	return data, err
}
