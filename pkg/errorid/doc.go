// Package errorid gives the errors that users meet a stable id, and each id a page: what
// the error means, what to do, and which flags and metrics belong to it. It is a leaf.
//
// An id is a few words behind "hs-", not a number: it says what happened before its page is
// opened, and a search for it finds nothing else. An id is never renamed and never gets
// another meaning, since runbooks and alerts on logs name it.
//
// An error gets its id where it is made: as a Sentinel, by With, or because its type has
// the method ErrorID. Of finds it below any number of wraps. Between processes the id is the
// end of the text, in brackets, as older versions and other programs pass texts on; Split
// takes it off again. The HTTP header has it as well.
package errorid
