// Package replicate spreads the series of a write over the nodes of a hash
// ring and answers at quorum, while the rest of the writes goes on in order
// behind a bounded queue for each peer.
package replicate
