// Package statushttp serves what a process says about itself: the values of its flags, its
// build, and its runtime, in the form of Prometheus's API.
package statushttp
