package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hindsight-io/hindsight/pkg/headblock"
)

// headConverter converts the logs of Prometheus into blocks.
type headConverter struct {
	// memory bounds the memory of one conversion, in bytes.
	memory int64
	logger *slog.Logger
}

// Convert implements outage.HeadConverter.
func (h headConverter) Convert(ctx context.Context, dataDir, out string) (lost string, err error) {
	src, err := headblock.OpenDir(dataDir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	report, err := headblock.Write(ctx, headblock.Config{
		Source: src, Dir: out, MinTime: src.MinTime(), Memory: h.memory, MemoryFlag: "tsdb.outage-memory", Logger: h.logger,
	})
	if err != nil {
		return "", err
	}
	if l := report.Loss; l.Places > 0 {
		lost = fmt.Sprintf("%d bytes at %d places cannot be read, the first: %s", l.Bytes, l.Places, l.First)
	}
	return lost, nil
}
