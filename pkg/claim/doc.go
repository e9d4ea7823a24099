// Package claim records in a bucket which sources have which external labels, so that
// two sources with equal labels, and a source whose labels change, are found before
// their blocks are mixed.
//
// A source writes one object, under the hash of its labels and its own instance:
// hindsight/claims-v1/<labels>/<instance>.json. No other source writes it, so that no
// provider needs conditional writes, and no claim is lost in a race. Equal labels are
// two live objects in one directory. Whether another source is live is seen from its
// object, which changes with each heartbeat while it is; clocks are not compared.
package claim
