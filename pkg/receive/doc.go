// Package receive is the role that takes remote write in: it finds the tenant,
// checks limits, spreads the series over a hash ring, stores its own share in a
// TSDB per tenant, ships their blocks, and shows everything as one
// storeapi.Store.
package receive
