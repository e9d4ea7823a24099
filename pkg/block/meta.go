package block

import (
	"encoding/json"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
)

// Resolutions of downsampled data, in milliseconds; 0 is raw.
const (
	ResolutionRaw int64 = 0
	Resolution5m  int64 = 5 * 60 * 1000
	Resolution1h  int64 = 60 * 60 * 1000
)

// Source is the component that made a block, as meta.json names it.
type Source string

// The sources that Thanos and this program write.
const (
	SourceSidecar         Source = "sidecar"
	SourceReceive         Source = "receive"
	SourceRuler           Source = "ruler"
	SourceCompactor       Source = "compactor"
	SourceCompactorRepair Source = "compactor.repair"
	SourceBucketRepair    Source = "bucket.repair"
	SourceBucketRewrite   Source = "bucket.rewrite"
	SourceBucketUpload    Source = "bucket.upload"
	// SourceSidecarRecover is that of blocks made of a head log by this program.
	SourceSidecarRecover Source = "sidecar.recover"
)

// Meta is a block's meta.json: the part of Prometheus, and the thanos section.
// MinTime is inclusive, MaxTime exclusive, in milliseconds.
type Meta struct {
	tsdb.BlockMeta
	Thanos Thanos `json:"thanos"`
	// Unknown keys of the top level, kept when a meta.json is rewritten.
	unknown map[string]json.RawMessage
}

// Thanos is the section of meta.json beside Prometheus's own keys.
type Thanos struct {
	Version      int               `json:"version,omitempty"`
	Labels       map[string]string `json:"labels"`
	Downsample   Downsample        `json:"downsample"`
	Source       Source            `json:"source"`
	SegmentFiles []string          `json:"segment_files,omitempty"`
	Files        []File            `json:"files,omitempty"`
	Rewrites     json.RawMessage   `json:"rewrites,omitempty"`
	IndexStats   IndexStats        `json:"index_stats"`
	Extensions   json.RawMessage   `json:"extensions,omitempty"`
	UploadTime   time.Time         `json:"upload_time"`
	// Unknown keys of the section, kept when a meta.json is rewritten.
	unknown map[string]json.RawMessage
}

// Downsample gives the resolution of the samples in milliseconds; 0 is raw.
type Downsample struct {
	Resolution int64 `json:"resolution"`
}

// File is one file of the block.
type File struct {
	RelPath   string `json:"rel_path"`
	SizeBytes int64  `json:"size_bytes,omitempty"`
	Hash      *Hash  `json:"hash,omitempty"`
}

// Hash is the checksum of a file.
type Hash struct {
	Func  string `json:"hashFunc"`
	Value string `json:"value"`
}

// IndexStats has the largest sizes of entries, in bytes, for exact range reads.
type IndexStats struct {
	SeriesMaxSize int64 `json:"series_max_size,omitempty"`
	ChunkMaxSize  int64 `json:"chunk_max_size,omitempty"`
}

// ExternalLabels returns the external labels of the block.
func (m *Meta) ExternalLabels() labels.Labels { return labels.FromMap(m.Thanos.Labels) }

// Resolution in milliseconds; 0 is raw.
func (m *Meta) Resolution() int64 { return m.Thanos.Downsample.Resolution }

// Overlaps says whether the half-open range of the block has a time in common with
// [mint, maxt], both inclusive as in queries. No other code compares the two.
func (m *Meta) Overlaps(mint, maxt int64) bool { return m.MinTime <= maxt && mint < m.MaxTime }

// DeletionMark is deletion-mark.json.
type DeletionMark struct {
	ID           ulid.ULID `json:"id"`
	Version      int       `json:"version"`
	Details      string    `json:"details,omitempty"`
	DeletionTime int64     `json:"deletion_time"` // unix seconds
}

// NoCompactMark is no-compact-mark.json.
type NoCompactMark struct {
	ID            ulid.ULID `json:"id"`
	Version       int       `json:"version"`
	Details       string    `json:"details,omitempty"`
	NoCompactTime int64     `json:"no_compact_time"` // unix seconds
	Reason        string    `json:"reason"`
}

// NoDownsampleMark is no-downsample-mark.json.
type NoDownsampleMark struct {
	ID               ulid.ULID `json:"id"`
	Version          int       `json:"version"`
	Details          string    `json:"details,omitempty"`
	NoDownsampleTime int64     `json:"no_downsample_time"` // unix seconds
	Reason           string    `json:"reason"`
}
