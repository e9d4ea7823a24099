// Package endpoint keeps the set of stores that a querier asks: who they are
// (flags, files, DNS), whether they answer, and what each of them has. A store
// that is expected and does not answer stays in the set and fails every request
// that it may be needed for, so that an answer without it is never taken for a
// complete one.
package endpoint
