// Package members decides which receivers form the hashring when no file lists them:
// from what discovery finds, and from how the members answer. It is pure: the caller
// looks up, asks, and passes the time.
//
// The ring has stable names in a fixed order. A receiver joins when it can take
// writes. It leaves when it says so, when its StatefulSet no longer has it, or when it
// is neither found nor answers for a time; never when discovery alone forgets it.
package members
