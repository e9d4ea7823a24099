package headlog

import (
	"encoding/json"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
)

// InfoName is the name of the object that describes a generation. It is written before
// the first piece.
const InfoName = "source.json"

// RecoveredName is the name of the object that recovery writes when blocks have all samples
// of a generation, before it removes the generation.
const RecoveredName = "recovered.json"

// MaxInfo bounds the size of that object, in bytes.
const MaxInfo = 1 << 20

const infoVersion = 1

// Info describes a generation.
type Info struct {
	Version int `json:"version"`
	// Labels are the external labels of the Prometheus, never empty.
	Labels map[string]string `json:"labels"`
	// Created is the time of creation on the clock of the sidecar, in milliseconds.
	Created int64 `json:"created"`
}

// EncodeInfo returns the content of the object.
func EncodeInfo(external labels.Labels, created int64) ([]byte, error) {
	b, err := json.MarshalIndent(Info{Version: infoVersion, Labels: external.Map(), Created: created}, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", InfoName, err)
	}
	return append(b, '\n'), nil
}

// DecodeInfo returns the Info in b. source is the directory that the object was found
// in; an Info whose labels belong to another one is an error.
func DecodeInfo(source string, b []byte) (Info, error) {
	if len(b) > MaxInfo {
		return Info{}, fmt.Errorf("decode %s: it has %d bytes, more than %d", InfoName, len(b), MaxInfo)
	}
	var i Info
	if err := json.Unmarshal(b, &i); err != nil {
		return Info{}, fmt.Errorf("decode %s: %w", InfoName, err)
	}
	if i.Version != infoVersion {
		return Info{}, fmt.Errorf("decode %s: its version is %d; this program knows %d", InfoName, i.Version, infoVersion)
	}
	if got := Source(labels.FromMap(i.Labels)); len(i.Labels) == 0 || got != source {
		return Info{}, fmt.Errorf("decode %s: its labels are those of source %s, but it is in %s", InfoName, got, source)
	}
	return i, nil
}
