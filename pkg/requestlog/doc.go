// Package requestlog writes the access log: lines for the requests of an HTTP or gRPC
// server, as the configuration of request logging chooses them. It logs neither bodies
// nor parameters nor headers, because these hold secrets.
package requestlog
