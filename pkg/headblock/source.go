package headblock

import (
	"context"
	"fmt"
)

// Log is one of the logs of a head.
type Log int

// The logs of a head. WALLog has series, samples and tombstones, with the checkpoint at
// its start; WBLLog has samples that came out of order.
const (
	WALLog Log = iota
	WBLLog
)

// String returns the name of the log's directory.
func (l Log) String() string {
	if l == WBLLog {
		return "wbl"
	}
	return "wal"
}

// Source is the head of one Prometheus as it was at one time: all calls read the same
// records.
type Source interface {
	// Records calls f with each record and its log, in the order in which they apply:
	// those of each log in the order in which Prometheus wrote them. The record is
	// valid until f returns; an error of f ends the call and is returned. Damaged
	// places are skipped and reported.
	Records(ctx context.Context, f func(l Log, rec []byte) error) (Loss, error)
	// Size is the number of bytes that one pass over both logs reads, about.
	Size() int64
}

// Loss tells how much of a log could not be read.
type Loss struct {
	// Places is the number of damaged places, Bytes their length.
	Places int
	Bytes  int64
	// First describes the first damaged place.
	First string
}

// add adds another loss.
func (l *Loss) add(o Loss) {
	if l.First == "" {
		l.First = o.First
	}
	l.Places += o.Places
	l.Bytes += o.Bytes
}

// note adds one damaged place.
func (l *Loss) note(bytes int64, format string, args ...any) {
	l.add(Loss{Places: 1, Bytes: bytes, First: fmt.Sprintf(format, args...)})
}
