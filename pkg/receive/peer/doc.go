// Package peer carries series from the node that received them to the nodes
// that store them: the WriteableStore service, as other receivers of the same
// family speak it, and a service of our own, whose streams spare what a call
// costs and whose replies have one result for each part. The bytes of the series
// are neither parsed nor, unless they are compressed, copied on the way out.
package peer
