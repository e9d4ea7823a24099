// Package dedup merges several sources of samples into one series. It is pure:
// iterators or chunks in, an iterator or chunks out.
//
// Samples with the same labels, replica labels included, are one stream,
// whichever block or store they come from: Union returns all of them. Replicas
// are observations of one target by different servers: FuncCoverage follows one
// replica at a time and fills its holes from the others. The caller chooses between
// the two by the labels; timestamps and values do not decide.
package dedup

// RingLabel is the label that distinguishes the nodes of a receive hash ring when
// no other label is configured. The nodes store copies of one stream, so series
// that differ in this label only are one source.
const RingLabel = "receive_replica"
