// Package dedup makes one series of several sources of samples. It is pure:
// iterators in, an iterator out.
//
// Samples with the same labels, replica labels included, are one stream,
// whichever block or store they come from: Union returns all of them. Replicas
// are observations of one target by different servers: Penalty follows one
// replica at a time and fills its holes from the others. Which of the two
// applies is never guessed from timestamps or values; the caller knows the
// labels.
package dedup

// RingLabel is the label that tells the nodes of a receive hash ring apart when
// no other label was configured. The nodes store copies of one stream, so
// series that differ in this label only are one source.
const RingLabel = "receive_replica"
