// Package provider opens buckets by configuration: every provider that
// thanos-io/objstore has, and a directory of the local filesystem. It is the
// only home of cloud SDKs and of objstore itself.
package provider
