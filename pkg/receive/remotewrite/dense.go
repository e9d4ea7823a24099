package remotewrite

// Decoding takes memory for each part of a request, so the number of parts is
// bounded by the size of the request: empty series would take many times their
// size. Valid parts are not smaller than these sizes: a series has a metric name,
// metadata the name of a family.
const (
	leastSeries   = 16
	leastV2Series = 12 // its names and values are elsewhere
	leastMetadata = 9  // a type and three letters
	leastSymbol   = 4  // with a reference to it
	// dense is the number of parts that a request of any size may have.
	dense = 64
)

// mostParts returns the highest number of parts with at least so many bytes each.
func mostParts(bytes, least int) int { return bytes/least + dense }

func tooDense(what string, bytes int) error {
	return Errorf(Invalid, "write request: more %s than %d bytes can hold: most are empty", what, bytes)
}
