// Package requestid carries the id of a request: one value by which a request is found
// in the answer, in the logs, and in the calls of all servers that work for it.
package requestid
