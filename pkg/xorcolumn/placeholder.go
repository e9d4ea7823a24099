package xorcolumn

import "errors"

// ErrPlaceholder is the error of decoding a placeholder.
var ErrPlaceholder = errors.New("a chunk was left out of the answer, and its samples are needed")

// placeholder is a chunk of the encoding XOR that announces no sample, with a byte that
// no writer appends.
const placeholder = "\x00\x00\x4c"

// Placeholder returns a chunk of the encoding XOR that stands for one that a store has
// left out. Other readers see a chunk without samples; this package refuses to decode
// it, so that no result lacks its samples without notice. The caller owns the bytes.
func Placeholder() []byte { return []byte(placeholder) }

// IsPlaceholder reports whether b, of the encoding XOR, is a placeholder.
func IsPlaceholder(b []byte) bool { return string(b) == placeholder }
