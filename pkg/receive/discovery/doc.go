// Package discovery finds the receivers of a hashring: by DNS, or by the EndpointSlices
// of a Kubernetes service.
package discovery
