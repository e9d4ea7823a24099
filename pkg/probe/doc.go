// Package probe has the series that `hindsight tools probe` writes, and checks what it
// reads back. Each value is a function of the series and the timestamp, and the labels of
// a series hold all that the function needs. A probe that starts again therefore also
// knows the values that an earlier one wrote.
//
// Deciding is pure here: the caller gives times and answers, and gets findings. Nothing
// is safe for concurrent use. Package wire writes and reads.
package probe
