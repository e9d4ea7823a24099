// Package shipper uploads each new block of a TSDB directory to a bucket, once.
package shipper
