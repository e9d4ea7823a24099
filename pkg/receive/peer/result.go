package peer

import (
	"encoding/binary"
	"errors"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// The reply of our own service: field 1, repeated, one message for each part of
// the request, empty for success. Else it has the kind of failure plus one (1)
// and its text (2). When the peer knows how much of the part it stored, those counts
// (3) follow, and the missing items (4, repeated), with the index of the replica set
// (4) before their counts. Counts are samples (1), histograms (2) and
// exemplars (3).

// The tags of a reply.
const (
	tagResult = 1<<3 | protoscan.Bytes

	tagKind    = 1<<3 | protoscan.Varint
	tagText    = 2<<3 | protoscan.Bytes
	tagStored  = 3<<3 | protoscan.Bytes
	tagMissing = 4<<3 | protoscan.Bytes

	tagSamples    = 1<<3 | protoscan.Varint
	tagHistograms = 2<<3 | protoscan.Varint
	tagExemplars  = 3<<3 | protoscan.Varint
	tagIndex      = 4<<3 | protoscan.Varint
)

// appendResult appends the result of one part to a reply.
func appendResult(out []byte, err error) []byte {
	if err == nil {
		return append(out, tagResult, 0)
	}
	text := errorid.TextOf(err)
	msg := append(make([]byte, 0, 64+len(text)), tagKind, byte(remotewrite.KindOf(err))+1, tagText)
	msg = binary.AppendUvarint(msg, uint64(len(text)))
	msg = append(msg, text...)
	var w *remotewrite.WriteError
	if errors.As(err, &w) && w.Stored != nil {
		msg = appendMessage(msg, tagStored, appendCounts(nil, *w.Stored))
		for _, m := range w.Missing {
			index := binary.AppendUvarint([]byte{tagIndex}, uint64(m.Index))
			msg = appendMessage(msg, tagMissing, appendCounts(index, m.Counts))
		}
	}
	return appendMessage(out, tagResult, msg)
}

func appendMessage(b []byte, tag byte, msg []byte) []byte {
	b = binary.AppendUvarint(append(b, tag), uint64(len(msg)))
	return append(b, msg...)
}

func appendCounts(b []byte, c remotewrite.Counts) []byte {
	for i, n := range []int{c.Samples, c.Histograms, c.Exemplars} {
		b = binary.AppendUvarint(append(b, byte(i+1)<<3), uint64(n))
	}
	return b
}

var errReply = errors.New("malformed reply of a peer")

// decodeResults reads a reply with n results; nil stands for n successes.
func decodeResults(b []byte, n int) (errs []error, err error) {
	seen := 0
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for ; fs.Next(&f); seen++ {
		if f.Tag != tagResult || seen == n {
			return nil, errReply
		}
		if len(f.Data) == 0 {
			continue
		}
		if errs == nil {
			errs = make([]error, n)
		}
		if errs[seen], err = decodeResult(f.Data); err != nil {
			return nil, err
		}
	}
	if fs.Err() != nil || seen != n {
		return nil, errReply
	}
	return errs, nil
}

// decodeResult reads the failure of one part.
func decodeResult(msg []byte) (failure, err error) {
	w, kind := &remotewrite.WriteError{}, false
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for fs.Next(&f) {
		switch f.Tag {
		case tagKind:
			if f.Num == 0 {
				return nil, errReply
			}
			if kind = true; f.Num-1 <= uint64(remotewrite.Unavailable) { // higher ones are of later versions
				w.Kind = remotewrite.Kind(f.Num - 1)
			}
		case tagText:
			w.Err = errorid.Received(string(f.Data))
		case tagStored, tagMissing:
			index, c, ok := decodeCounts(f.Data)
			if !ok {
				return nil, errReply
			}
			if f.Tag == tagStored {
				w.Stored = &c
			} else {
				w.Missing = append(w.Missing, remotewrite.Missing{Index: index, Counts: c})
			}
		}
	}
	if fs.Err() != nil || !kind || w.Err == nil {
		return nil, errReply
	}
	return w, nil
}

// decodeCounts reads counts and the index of the replica set before them.
func decodeCounts(b []byte) (index int, c remotewrite.Counts, ok bool) {
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for fs.Next(&f) {
		if f.Num > 1<<40 {
			return 0, c, false
		}
		switch f.Tag {
		case tagSamples:
			c.Samples = int(f.Num)
		case tagHistograms:
			c.Histograms = int(f.Num)
		case tagExemplars:
			c.Exemplars = int(f.Num)
		case tagIndex:
			index = int(f.Num)
		}
	}
	return index, c, fs.Err() == nil
}
