// Package headship ships the log of a running Prometheus to the bucket at an interval,
// so that the samples which are in no block yet survive the loss of its disk, and
// removes it once blocks hold the samples. The format is that of package headlog.
package headship
