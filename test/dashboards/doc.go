// Package dashboards measures dashboard queries over real processes: an S3 server,
// the gateway and the querier over two replicas of two clusters, and a Prometheus
// with one replica of the same series on its local disk.
package dashboards
