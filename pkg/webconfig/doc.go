// Package webconfig protects an HTTP listener as the web configuration file says that
// Prometheus and its exporters share: TLS, certificates of clients, users with passwords,
// headers, and a limit of the rate of requests.
package webconfig
