// Package httpclient makes HTTP clients from the YAML that the field's tools
// share: credentials, TLS, proxy, and the connection pool.
package httpclient
