// Package metamonitor asks a query API how many series each tenant has in the
// whole ring, so that a node can hold tenants to a limit that it cannot count by
// itself.
package metamonitor
