// Package httpclient makes HTTP clients from the YAML of Thanos and
// Prometheus: credentials, TLS, proxy, and the connection pool.
package httpclient
