// Package sizinghttp serves the calculator of package sizing over HTTP, for the page of
// the web interface.
package sizinghttp
