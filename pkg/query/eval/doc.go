// Package eval evaluates PromQL expressions series by series, on decoded columns.
//
// It has the operators of which dashboards, alerts and recording rules are made.
// Its results are those of Prometheus's engine, bit for bit: it adds in the same
// order with the same compensation, and gives the same annotations. An expression
// that it does not know is refused with ErrUnsupported when it is compiled, and one
// that meets data for which only Prometheus's engine has the answer (an error of the
// evaluation among them) ends with ErrUnsupported while it runs: the caller then
// evaluates it with that engine.
package eval
