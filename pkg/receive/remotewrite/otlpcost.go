package remotewrite

import (
	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

// The decoder of OTLP makes an object of each message and calls itself for each level.
// A message takes two bytes on the wire, so a small body can need a hundred times its
// size, and attributes inside attributes can overflow the stack, which ends the
// process. OTLPCost and OTLPJSONCost look at a body before it is decoded.

const (
	// maxOTLPDepth bounds the levels of messages, or of objects and arrays in JSON: some
	// MiB of stack, of the GiB after which Go ends the process.
	maxOTLPDepth = 20_000
	// otlpMessageCost and otlpValueCost are about the bytes that a decoded message and
	// an attribute value take, with the slices that hold them.
	otlpMessageCost = 320
	otlpValueCost   = 128
)

// otlpType is a type of messages that has other messages as fields.
type otlpType int

const (
	otlpLeaf otlpType = iota // has no messages that are counted
	otlpRequest
	otlpResourceMetrics
	otlpResource
	otlpScopeMetrics
	otlpScope
	otlpMetric
	otlpNumbers // a gauge or a sum
	otlpHistograms
	otlpExponentials
	otlpSummaries
	otlpNumber
	otlpHistogram
	otlpExponential
	otlpSummary
	otlpExemplar
	otlpKeyValue
	otlpValue
	otlpValueArray
	otlpValueMap
)

// field returns the type of the message in the field n, and false when the field is
// not a message.
func (t otlpType) field(n int) (otlpType, bool) {
	type at struct {
		of     otlpType
		number int
	}
	switch (at{t, n}) {
	case at{otlpRequest, 1}:
		return otlpResourceMetrics, true
	case at{otlpResourceMetrics, 1}:
		return otlpResource, true
	case at{otlpResourceMetrics, 2}, at{otlpResourceMetrics, 1000}:
		return otlpScopeMetrics, true
	case at{otlpScopeMetrics, 1}:
		return otlpScope, true
	case at{otlpScopeMetrics, 2}:
		return otlpMetric, true
	case at{otlpMetric, 5}, at{otlpMetric, 7}:
		return otlpNumbers, true
	case at{otlpMetric, 9}:
		return otlpHistograms, true
	case at{otlpMetric, 10}:
		return otlpExponentials, true
	case at{otlpMetric, 11}:
		return otlpSummaries, true
	case at{otlpNumbers, 1}:
		return otlpNumber, true
	case at{otlpHistograms, 1}:
		return otlpHistogram, true
	case at{otlpExponentials, 1}:
		return otlpExponential, true
	case at{otlpSummaries, 1}:
		return otlpSummary, true
	case at{otlpNumber, 5}, at{otlpHistogram, 8}, at{otlpExponential, 11}:
		return otlpExemplar, true
	case at{otlpResource, 3}, at{otlpExponential, 8}, at{otlpExponential, 9}, at{otlpSummary, 6}:
		return otlpLeaf, true
	}
	return t.attribute(n)
}

// attribute is field for the messages that are attributes or parts of them.
func (t otlpType) attribute(n int) (otlpType, bool) {
	switch {
	case n == 1 && (t == otlpResource || t == otlpExponential || t == otlpValueMap),
		n == 3 && t == otlpScope,
		n == 7 && (t == otlpNumber || t == otlpSummary || t == otlpExemplar),
		n == 9 && t == otlpHistogram,
		n == 12 && t == otlpMetric:
		return otlpKeyValue, true
	case n == 2 && t == otlpKeyValue, n == 1 && t == otlpValueArray:
		return otlpValue, true
	case n == 5 && t == otlpValue:
		return otlpValueArray, true
	case n == 6 && t == otlpValue:
		return otlpValueMap, true
	}
	return otlpLeaf, false
}

func (t otlpType) cost() int64 {
	if t >= otlpKeyValue {
		return otlpValueCost
	}
	return otlpMessageCost
}

// OTLPCost returns about how many bytes of memory the protobuf message of an OTLP
// metrics request takes when it is decoded. It fails for malformed messages, and for
// those that are nested deeper than any sender needs.
func OTLPCost(b []byte) (int64, error) { return otlpCost(otlpRequest, b, 1) }

func otlpCost(t otlpType, b []byte, depth int) (int64, error) {
	if depth > maxOTLPDepth {
		return 0, errOTLPDepth()
	}
	sum := t.cost()
	s := protoscan.Fields{B: b}
	for f := (protoscan.Field{}); s.Next(&f); {
		sum += int64(len(f.Data))
		of, ok := t.field(f.Number())
		if !ok || f.Type() != protoscan.Bytes {
			continue
		}
		sum -= int64(len(f.Data)) // counted inside
		n, err := otlpCost(of, f.Data, depth+1)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, s.Err()
}

func errOTLPDepth() error {
	return Errorf(Invalid, "the request has more than %d levels of values inside values", maxOTLPDepth)
}

// OTLPJSONCost is OTLPCost for the JSON form. The decoder finds what is malformed.
func OTLPJSONCost(b []byte) (int64, error) {
	objects, depth := int64(0), 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth > maxOTLPDepth {
				return 0, errOTLPDepth()
			}
			if b[i] == '{' {
				objects++
			}
		case '}', ']':
			depth--
		case 'n': // null takes as much as an empty object
			objects++
		}
	}
	return int64(len(b)) + objects*otlpMessageCost, nil
}
