// Package kubetest is a server with the part of the Kubernetes API that the discovery of
// receivers uses, for tests: EndpointSlices with list and watch, and StatefulSets.
package kubetest
