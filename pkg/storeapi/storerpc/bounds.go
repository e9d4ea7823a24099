package storerpc

import (
	"fmt"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Bounds of what a server may send: far more than a proper one ever does, far
// less than what fills the memory of its client.
const (
	// defaultMessageBytes is the largest message that a client accepts.
	defaultMessageBytes = 128 << 20
	// maxInfoBytes bounds the answer of the Info service on the wire, and maxInfoMemory
	// in memory, where an element counts for elementMemory bytes.
	maxInfoBytes  = 16 << 20
	maxInfoMemory = 192 << 20
	// maxComponent is the longest name of a component that is kept, in bytes.
	maxComponent = 64
	// maxNamesMemory bounds a list of names or values of labels in memory, where each
	// counts for nameMemory bytes beside its text.
	maxNamesMemory = 256 << 20
	nameMemory     = 32
	// maxFrameSeries and maxFrameChunks bound one message of series. An element
	// takes more in memory than the few bytes that it may have on the wire.
	maxFrameSeries = 64 << 10
	maxFrameChunks = 1 << 20
	// maxLabels and maxLabelSetBytes bound the labels of one series.
	maxLabels        = 10_000
	maxLabelSetBytes = 4 << 20
	// maxEmptyFrames is how many messages without a series may follow each other.
	maxEmptyFrames = 10_000
	// maxWarnings and maxWarningBytes bound the warnings of one answer.
	maxWarnings     = 100
	maxWarningBytes = 4 << 10
	// maxHints bounds the statistics of one answer, in bytes.
	maxHints = 1 << 20
	// maxHeaderBytes bounds the headers of a call on either side; the text of an
	// error is in one.
	maxHeaderBytes = 1 << 20
)

// labelCount is how much one label set has.
type labelCount struct{ labels, bytes int }

// add counts a label of n bytes.
func (c *labelCount) add(n int) error {
	c.labels++
	c.bytes += n
	if c.labels > maxLabels || c.bytes > maxLabelSetBytes {
		return fmt.Errorf("%w: a series has more than %d labels or %d bytes of them", limit.ErrExceeded, maxLabels, maxLabelSetBytes)
	}
	return nil
}

// texts are the warnings of one answer, each cut and no more than there is a use
// for.
type texts struct {
	kept []string
	more int
}

func (t *texts) add(b []byte) {
	if len(t.kept) >= maxWarnings {
		t.more++
		return
	}
	t.kept = append(t.kept, clip(b))
}

func (t *texts) addAll(o texts) {
	for _, w := range o.kept {
		if len(t.kept) >= maxWarnings {
			t.more++
			continue
		}
		t.kept = append(t.kept, w)
	}
	t.more += o.more
}

// clip copies a text, cut to maxWarningBytes.
func clip[T string | []byte](b T) string {
	if len(b) <= maxWarningBytes {
		return strings.ToValidUTF8(string(b), "\uFFFD")
	}
	return strings.ToValidUTF8(string(b[:maxWarningBytes]), "\uFFFD") + fmt.Sprintf(" ... (%d bytes)", len(b))
}

// warnings are the texts with the name of the store.
func (c *Client) warnings(t texts) (ws storeapi.Warnings) {
	for _, text := range t.kept {
		ws = append(ws, storeapi.Warning{Source: c.name, Text: text})
	}
	if t.more > 0 {
		ws = append(ws, storeapi.Warning{Source: c.name, Text: fmt.Sprintf("store %s sent %d more warnings", c.name, t.more)})
	}
	return ws
}

func textsOf(in []string) (t texts) {
	for _, w := range in {
		if len(t.kept) >= maxWarnings {
			t.more++
			continue
		}
		t.kept = append(t.kept, clip(w))
	}
	return t
}
