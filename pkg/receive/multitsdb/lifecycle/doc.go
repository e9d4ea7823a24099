// Package lifecycle decides what becomes of a tenant on a receiver: which state
// an event leads to, and what has to be done for it. It does no I/O, takes no
// locks and reads no clock; package multitsdb carries the effects out and reports
// their results as further events.
//
//	                  found, write
//	     +----------------------------------+
//	     |                                  v
//	+--------+    (query: empty)      +---------+  opened   +------+
//	| absent |                        | opening |---------->| open |<---+
//	+--------+                        +---------+           +------+    |
//	 ^  ^  ^                            |  ^  ^                |        |
//	 |  |  |                open failed |  |  |     idle check |        |
//	 |  |  |                            v  |  |        passed, |        |
//	 |  |  | forgotten, shutdown  +--------+  |       expired, |        |
//	 |  |  +----------------------| failed |  |       shutdown |        | busy
//	 |  |                         +--------+  |                |        |
//	 |  |                           |         |                |        |
//	 |  |                   expired |         | write, query,  |        |
//	 |  |                           |         | maintenance    |        |
//	 |  |                           v         |                v        |
//	 |  |       shutdown       +------+       |          +---------+    |
//	 |  +----------------------| idle |-------+          | closing |----+
//	 |                         +------+                  +---------+
//	 |                           |  ^      closed,         |  ^  |
//	 |                           |  |      close failed,   |  |  |
//	 |                           |  |      remove failed   |  |  |
//	 |                           |  +----------------------+  |  |
//	 |                           |           expired          |  |
//	 |                           +----------------------------+  |
//	 |          removed, or closed for a shutdown                |
//	 +-----------------------------------------------------------+
//
// Opening and closing are the busy states: one caller carries the effect out, and
// all others wait for its end and ask again. A failed tenant that expires goes to
// closing directly, not by way of idle. Of closing there are four kinds, see
// Purpose: for a tenant that is idle, for one that is past its retention, whose
// directory is deleted after its TSDB is closed, for the end of the process, and for one
// whose log could not be written, which goes on to opening at once.
//
// An open tenant serves writes and queries. An idle one has no TSDB in memory,
// and nothing on the disk but blocks: a write opens it, and so does a query for a
// time of which it has samples. A failed one is opened again by the first demand
// after its pause, which doubles from FirstPause to MaxPause.
package lifecycle
