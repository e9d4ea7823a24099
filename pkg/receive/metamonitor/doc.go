// Package metamonitor queries the number of series of each tenant in the whole ring,
// which a node cannot count itself, so that it can enforce a limit.
package metamonitor
