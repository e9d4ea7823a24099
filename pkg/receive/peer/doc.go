// Package peer carries series from the node that received them to the nodes that
// store them. It has two protocols: the WriteableStore service of Thanos, and a
// service of our own with long-lived streams, which cost less than calls, and one
// result for each part. The client neither parses the series nor, unless it compresses
// them, copies them.
package peer
