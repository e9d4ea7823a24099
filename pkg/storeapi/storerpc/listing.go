package storerpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
)

// Bounds of an answer that is a list: rules, targets, statistics. Elements count
// because decoding makes an object of each, however few bytes it has on the wire.
const (
	maxListingAnswer = 64 << 20 // bytes
	elementMemory    = 96       // bytes of an object in memory
	messageMemory    = 1 << 10  // bytes that a message counts for at least
	// maxListingText bounds one text, in bytes; label sets cannot hold texts of
	// 16 MiB.
	maxListingText = 1 << 20
)

// listed is a message of a stream that is a list.
type listed interface {
	proto.Message
	UnmarshalVT([]byte) error
}

// listing is the answer to a call that streams a list.
type listing[M listed] struct {
	// doing begins the text of errors: the attempted call and the server's name.
	doing  string
	budget *limit.Budget
	// use takes one message; it must not keep it.
	use func(M)
}

// read calls the server and reads its answer to the end, within the bounds.
func (l listing[M]) read(ctx context.Context, open func(context.Context) (grpc.ClientStream, error), empty M) error {
	ctx, cancel := context.WithCancel(outgoing(ctx))
	defer cancel()
	stream, err := open(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", l.doing, fromStatus(err))
	}
	m := &measured{message: empty, budget: l.budget, left: maxListingAnswer, each: elementMemory}
	for {
		switch err := stream.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", l.doing, m.failure(err))
		}
		l.use(empty)
	}
}

// measured is a message that is decoded only when its size in memory is within
// the bounds.
type measured struct {
	message listed
	budget  *limit.Budget
	// left is how many bytes the messages may still take, and each how many an element
	// counts for beside its bytes on the wire.
	left, each int64
	refused    error
}

// failure is the error of a call that was to decode the message: the bound that it
// exceeds, or else err, the error of the call.
func (m *measured) failure(err error) error {
	if err != nil && m.refused != nil {
		return m.refused
	}
	return fromStatus(err)
}

// UnmarshalView implements ViewUnmarshaler.
func (m *measured) UnmarshalView(data []byte) error {
	n, err := elements(m.message.ProtoReflect().Descriptor(), data)
	if err != nil {
		return err
	}
	size := int64(len(data)) + n*m.each + messageMemory
	if size > m.left {
		m.refused = fmt.Errorf("%w: a message of %d bytes with %d elements takes more memory than the %d bytes that are left for the answer", limit.ErrExceeded, len(data), n, m.left)
		return m.refused
	}
	m.left -= size
	if m.refused = m.budget.Take(size); m.refused != nil {
		return m.refused
	}
	proto.Reset(m.message)
	return m.message.UnmarshalVT(data)
}

// elements counts the messages and strings inside an encoded message.
func elements(desc protoreflect.MessageDescriptor, data []byte) (n int64, err error) {
	fields, field := protoscan.Fields{B: data}, protoscan.Field{}
	for fields.Next(&field) {
		if field.Type() != protoscan.Bytes {
			continue
		}
		n++
		if f := desc.Fields().ByNumber(protoreflect.FieldNumber(field.Number())); f != nil && f.Message() != nil {
			below, err := elements(f.Message(), field.Data)
			if err != nil {
				return 0, err
			}
			n += below
		}
	}
	return n, fields.Err()
}

// Lists are shown as JSON, which has no invalid UTF-8, NaN or infinities. The
// functions below replace those that a server sends.

func textFromWire(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxListingText)], "\uFFFD")
}

func labelTextFromWire(set *labelpb.ZLabelSet) labels.Labels {
	b := labels.NewBuilder(labels.EmptyLabels())
	for _, l := range set.GetLabels() {
		if name := textFromWire(l.GetName()); name != "" {
			b.Set(name, textFromWire(l.GetValue()))
		}
	}
	return b.Labels()
}

func numberFromWire(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// timeFromWire returns the zero time for a timestamp that is absent or out of
// range.
func timeFromWire(t *timestamppb.Timestamp) time.Time {
	if t == nil || !t.IsValid() {
		return time.Time{}
	}
	return t.AsTime()
}

// timeToWire returns the timestamp of t. The zero time, which means that the event
// has not happened yet, has a timestamp too.
func timeToWire(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// sendWarnings sends the warnings one by one, or fails when there are any and the
// request wants all or nothing.
func sendWarnings(what string, partial storeapi.PartialResponse, ws storeapi.Warnings, send func(string) error) error {
	if len(ws) > 0 && partial == storeapi.PartialAbort {
		return toStatus(fmt.Errorf("%s: %w: %s", what, storeapi.ErrPartial, ws[0].Text))
	}
	for _, w := range ws.Strings() {
		if err := send(w); err != nil {
			return fmt.Errorf("send warning: %w", err)
		}
	}
	return nil
}
