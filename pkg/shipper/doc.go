// Package shipper uploads each block of a TSDB directory to a bucket, once, and
// knows which of them are there.
package shipper
