// Package headblock turns the head of a Prometheus, which is a write-ahead log with
// its checkpoint, a log of out-of-order samples, and the chunks of the head, into
// ordinary blocks. Write does all of the work:
//
//	src, err := headblock.OpenDir("/prometheus")
//	defer src.Close()
//	report, err := headblock.Write(ctx, headblock.Config{
//		Source: src, Dir: "/tmp/blocks", MinTime: src.MinTime(), ExternalLabels: lset,
//	})
//
// The blocks have the samples that Prometheus would serve from its head after it has
// read the log: only the first sample of a time counts, a sample of the ordinary log
// that is older than the one before it does not, intervals of tombstones are left out,
// and a log that ends in the middle of a record ends with the record before it. Unlike
// Prometheus, which ends at the first damaged record, Write goes on behind it and
// reports the loss.
//
// The logs have all samples of the head, unless Prometheus has cut off a damaged one.
// Then the chunks that it has moved from memory into files may have more: Dir compares
// the two, and Write takes those of the series whose chunks have more samples.
//
// A head has more samples than fit into memory. Write reads all label sets first and
// sorts them; then it reads the logs again as often as needed, each time for as many
// series as the memory budget holds, so that each pass appends whole series to
// the blocks in order.
package headblock
