package block_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Upload publishes a local block; Download returns it, with its checksums verified by
// Verify; MarkDeletion and Delete remove it.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "block")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	id := writeExampleBlock(ctx, filepath.Join(dir, "local"))

	b := bucket.NewMemory()
	m, err := block.Upload(ctx, b, filepath.Join(dir, "local"), block.UploadConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.ExternalLabels(), m.Stats.NumSamples)

	if _, err := block.Download(ctx, b, m.ULID, filepath.Join(dir, "copy"), block.DownloadConfig{}); err != nil {
		fmt.Println(err)
		return
	}
	report, err := block.Verify(ctx, filepath.Join(dir, "copy"))
	fmt.Println(report.Series, report.Chunks, report.Flawed(), err)

	marked, err := block.MarkDeletion(ctx, b, m.ULID, "example", time.Unix(1, 0))
	fmt.Println(marked, err)
	fmt.Println(block.Delete(ctx, b, m.ULID), m.ULID.String() == id)
	// Output:
	// {cluster="eu"} 2
	// 1 1 false <nil>
	// true <nil>
	// <nil> true
}

// writeExampleBlock writes a block of one series and returns its ULID.
func writeExampleBlock(ctx context.Context, dir string) string {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		panic(err)
	}
	app.Append(0, 1000, 1)
	app.Append(0, 2000, 2)
	m := &block.Meta{}
	m.ULID, m.MinTime, m.MaxTime = blocktest.ID("example"), 0, 7_200_000
	m.Thanos.Labels = map[string]string{"cluster": "eu"}
	m.Thanos.Source = block.SourceSidecar
	err = blocktest.Write(ctx, dir, m, []blocktest.Series{{
		Labels: labels.FromStrings("__name__", "up"),
		Chunks: []chunks.Meta{{Chunk: c, MinTime: 1000, MaxTime: 2000}},
	}})
	if err != nil {
		panic(err)
	}
	return m.ULID.String()
}
