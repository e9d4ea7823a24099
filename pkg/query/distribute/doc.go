// Package distribute decides which parts of a query are evaluated by the queriers
// below, so that results travel instead of samples. It is pure.
//
// A part is pushed down only where the result is equal bit for bit to the one that this
// querier would have. That is the case where each output series is computed from the
// data of one querier alone, in the same order, or where the results of several
// queriers merge exactly: numbers of series, group, minimum and maximum (which may
// differ in the sign of a zero). Sums of sums would be rounded differently.
package distribute
