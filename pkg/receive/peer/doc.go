// Package peer carries series from the node that received them to the nodes
// that store them: the WriteableStore service, as other receivers of the same
// family speak it, and a service of our own with the same request bytes whose
// answer has one result for each tenant part. The bytes of the series are
// neither parsed nor copied on the way out.
package peer
