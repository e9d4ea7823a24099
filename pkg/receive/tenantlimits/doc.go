// Package tenantlimits reads the limits file of receivers, which has defaults and
// exceptions for tenants, and enforces it: a concurrency gate and meters of samples.
package tenantlimits
