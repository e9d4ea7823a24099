package columnchunk

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Encoding marks chunks of this package among those of a TSDB, which has a few low numbers.
const Encoding chunkenc.Encoding = 0x7e

// errCorrupt says that bytes are no chunk of this package.
var errCorrupt = errors.New("corrupt column chunk")

// A chunk is, with integers in little-endian order but for the first one, which stands as in
// the chunks of a TSDB:
//
//	number of samples <u16 big-endian>
//	decimals, and smallFlag where no number has more than 51 bits <u8>
//	code of the width of time steps <u8> | code of the width of value steps <u8>
//	number of exceptions among time steps, among value steps, among values <3 × u8>
//	first time <i64> | first value <i64> | least value step <i64> | least time step <i32>
//	bytes of the chunk of a TSDB that it was made from <u32>
//	exceptions among time steps, then among value steps: position <u16>, step <i64>
//	exceptions among values: position <u16>, bits of the float <u64>
//	time steps beyond the least one: width × (samples - 1 + padding)
//	value steps beyond the least one: width × (samples - 1 + padding)
//
// A value is a number of units of 10^-decimals. The bytes of a step that is an exception have
// no meaning, and a value that is one repeats the number of the value before it. Padding lets
// the decoder read whole vectors. With the code floatsCode the first value, and what stands in
// the place of steps, are the bits of the floats themselves.
const (
	maxSamples    = 4096
	maxDecimals   = 9
	maxExceptions = 255
	smallFlag     = 0x80
	headSize      = 8 + 3*8 + 4 + 4
	exceptionSize = 2 + 8
	padding       = lanes - 1
)

// lanes is how many numbers of 64 bits a vector register has.
const lanes = 4

// smallNumber is the first number that vector instructions do not turn into a float.
const smallNumber = 1 << 51

// width is the number of bytes of a step by its code.
func width(code byte) int { return [...]int{0, 1, 2, 4, 8, 8}[code] }

// stepCodes are the codes of steps.
const (
	stepCodes  = 5
	floatsCode = 5
)

// power is the number of units of a value with so many decimals.
func power(decimals byte) float64 {
	return [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}[decimals]
}

// chunk is a parsed chunk.
type chunk struct {
	samples int
	// units is how many of the numbers make 1.
	units         float64
	times, values column
	// floats are the exceptions among values.
	floats []byte
}

// column has the numbers of times or values.
type column struct {
	vectorState
	first int64
	width int
	// small says that no number is beyond smallNumber, verbatim that they are the bits of
	// floats.
	small, verbatim bool
	// exceptions are the steps that the data, those of the others, have not.
	exceptions, data []byte
}

// vectorState is what vector instructions read and write, in this order.
type vectorState struct {
	v, least int64
	units    float64
	sums     [lanes]int64
}

// SourceSize returns the number of bytes of the chunk of a TSDB that a chunk was made from. It
// is 0 for other bytes.
func SourceSize(b []byte) int64 {
	if len(b) < headSize {
		return 0
	}
	return int64(binary.LittleEndian.Uint32(b[headSize-4:]))
}

// Check returns an error for bytes that are no chunk of this package, which have nothing to
// decode.
func Check(b []byte) error {
	var c chunk
	return parse(b, &c)
}

// parse checks all lengths, so that decoding cannot fail.
func parse(b []byte, c *chunk) error {
	if len(b) < headSize || b[2]&^smallFlag > maxDecimals || b[3] >= stepCodes || b[4] > floatsCode {
		return fmt.Errorf("%w: a head of %d bytes", errCorrupt, len(b))
	}
	c.samples, c.units = int(binary.BigEndian.Uint16(b)), power(b[2]&^smallFlag)
	t, v := &c.times, &c.values
	t.width, v.width, v.small, v.verbatim = width(b[3]), width(b[4]), b[2]&smallFlag != 0, b[4] == floatsCode
	t.first, v.first = int64(binary.LittleEndian.Uint64(b[8:])), int64(binary.LittleEndian.Uint64(b[16:]))
	v.least, t.least = int64(binary.LittleEndian.Uint64(b[24:])), int64(int32(binary.LittleEndian.Uint32(b[32:])))
	endT := headSize + int(b[5])*exceptionSize
	endV := endT + int(b[6])*exceptionSize
	steps := endV + int(b[7])*exceptionSize
	stepsV := steps + t.width*(c.samples-1+padding)
	if c.samples == 0 || c.samples > maxSamples || len(b) != stepsV+v.width*(c.samples-1+padding) {
		return fmt.Errorf("%w: %d samples in %d bytes", errCorrupt, c.samples, len(b))
	}
	t.exceptions, v.exceptions, c.floats = b[headSize:endT], b[endT:endV], b[endV:steps]
	t.data, v.data = b[steps:stepsV], b[stepsV:]
	return nil
}
