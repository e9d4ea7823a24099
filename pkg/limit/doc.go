// Package limit holds what every reader shares to bound an answer: the error of
// an exceeded limit, the counter of one answer, and a budget. It is a leaf.
package limit
