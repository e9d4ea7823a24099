// Package thanosmetrics exports metrics under the names of Thanos as well, for dashboards
// and alerts that are made for it.
package thanosmetrics
