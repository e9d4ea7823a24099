// Package httpserver makes the HTTP servers of all listeners of the program with
// the same bounds: number of connections, size of headers and bodies, and the
// time that a client may take to send a request or to read an answer. A client
// that makes progress may take as long as it needs; one that stalls is
// disconnected, so that its memory is freed.
package httpserver
