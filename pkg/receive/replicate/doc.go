// Package replicate spreads the series of a write over the nodes of a hash ring and
// answers at quorum. Each peer has a bounded queue, which keeps the order, and a hint
// log for the writes that the peer could not store (hinted handoff).
package replicate
