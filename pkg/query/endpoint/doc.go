// Package endpoint keeps the set of stores that a querier asks: their addresses
// (from flags, files and DNS), their health, and the data that each announces. An
// expected store that does not answer stays in the set and fails every request
// that it may be needed for, so that an answer without it is never taken for a
// complete one.
package endpoint
