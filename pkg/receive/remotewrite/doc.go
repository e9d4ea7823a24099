// Package remotewrite turns the bytes of remote write requests into batches
// and back. A Batch keeps every series in its wire form (remote write 1.0, the
// same bytes as in the WriteableStore service), so that series are routed and
// forwarded without parsing them; only the node that stores a series reads its
// fields.
//
// The canonical form of a series is the field `timeseries` (number 1) of
// prometheus.WriteRequest with all label fields first. Three extensions, which
// other readers skip, keep what remote write 2.0 adds: Sample.start_timestamp
// (3), Histogram.start_timestamp (17), and TimeSeries field 15, a message with
// the metric's type (1), help (2) and unit (3).
package remotewrite
