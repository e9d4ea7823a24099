// Package lease shares the groups of a bucket between compactors. A lease is an object
// that is written conditionally and names its owner; each new ownership has the next
// epoch. An owner writes a heartbeat. Other compactors take over the leases of an owner
// after they saw the same heartbeat for the whole lease time by their own monotonic clock;
// no clock is compared with another one. On a bucket without conditional writes a single
// compactor may run, which the heartbeats show.
package lease
