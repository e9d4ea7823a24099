// Package tlsconfig makes the TLS configurations of all servers and clients of
// the program from files. Certificates, keys and bundles of authorities are read
// again when they change, without a restart; when the new files cannot be used,
// the last good ones stay in use and the reason is logged.
package tlsconfig
