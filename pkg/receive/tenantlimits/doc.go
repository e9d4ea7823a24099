// Package tenantlimits says how much a tenant may send: a file with defaults and
// exceptions, read again when it changes, and the gates and meters that hold
// senders to it.
package tenantlimits
