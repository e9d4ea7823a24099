package peer

import (
	"encoding/binary"
	"errors"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// The reply of our own service: field 1, repeated, one message for each part of
// the request, empty for success. Else it has the kind of failure plus one (1)
// and its text (2). When the peer knows what of the part it stored, those counts
// (3) follow, and what is missing (4, repeated) with the index of the replica
// set (4) before its counts. Counts are samples (1), histograms (2) and
// exemplars (3).

// appendResult appends the result of one part to a reply.
func appendResult(out []byte, err error) []byte {
	if err == nil {
		return append(out, 1<<3|2, 0)
	}
	text := err.Error()
	msg := append(make([]byte, 0, 64+len(text)), 1<<3, byte(remotewrite.KindOf(err))+1, 2<<3|2)
	msg = binary.AppendUvarint(msg, uint64(len(text)))
	msg = append(msg, text...)
	var w *remotewrite.WriteError
	if errors.As(err, &w) && w.Stored != nil {
		msg = appendMessage(msg, 3, appendCounts(nil, *w.Stored))
		for _, m := range w.Missing {
			index := binary.AppendUvarint([]byte{4 << 3}, uint64(m.Index))
			msg = appendMessage(msg, 4, appendCounts(index, m.Counts))
		}
	}
	return appendMessage(out, 1, msg)
}

func appendMessage(b []byte, number byte, msg []byte) []byte {
	b = binary.AppendUvarint(append(b, number<<3|2), uint64(len(msg)))
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
	for ; len(b) > 0; seen++ {
		msg, rest, ok := cutField(b, 1<<3|2)
		if !ok || seen == n {
			return nil, errReply
		}
		b = rest
		if len(msg) == 0 {
			continue
		}
		if errs == nil {
			errs = make([]error, n)
		}
		if errs[seen], ok = decodeResult(msg); !ok {
			return nil, errReply
		}
	}
	if seen != n {
		return nil, errReply
	}
	return errs, nil
}

func decodeResult(msg []byte) (failure error, ok bool) {
	if len(msg) < 3 || msg[0] != 1<<3 || msg[1] == 0 || msg[1] > 0x7f {
		return nil, false
	}
	kind := remotewrite.Kind(msg[1] - 1)
	if kind > remotewrite.Unavailable { // of a version to come
		kind = remotewrite.Other
	}
	text, rest, ok := cutField(msg[2:], 2<<3|2)
	if !ok {
		return nil, false
	}
	w := &remotewrite.WriteError{Kind: kind, Err: errors.New(string(text))}
	for len(rest) > 0 {
		var data []byte
		number := rest[0] >> 3
		if data, rest, ok = cutField(rest, rest[0]); !ok {
			return nil, false
		}
		index, c, ok := decodeCounts(data)
		switch {
		case !ok:
			return nil, false
		case number == 3:
			w.Stored = &c
		case number == 4:
			w.Missing = append(w.Missing, remotewrite.Missing{Index: index, Counts: c})
		}
	}
	return w, true
}

func decodeCounts(b []byte) (index int, c remotewrite.Counts, ok bool) {
	for len(b) > 1 {
		v, n := binary.Uvarint(b[1:])
		if n <= 0 || v > 1<<40 {
			return 0, c, false
		}
		switch b[0] {
		case 1 << 3:
			c.Samples = int(v)
		case 2 << 3:
			c.Histograms = int(v)
		case 3 << 3:
			c.Exemplars = int(v)
		case 4 << 3:
			index = int(v)
		}
		b = b[1+n:]
	}
	return index, c, len(b) == 0
}

// cutField takes a length-delimited field with the one-byte tag off b.
func cutField(b []byte, tag byte) (msg, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > uint64(len(b)-1-w) {
		return nil, nil, false
	}
	return b[1+w : 1+w+int(n)], b[1+w+int(n):], true
}
