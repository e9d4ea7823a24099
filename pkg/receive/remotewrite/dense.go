package remotewrite

// What is noted about each part of a request takes memory of its own, so bytes
// can hold only so many parts: a request of nothing but empty series would take
// many times its size. No part that says anything has fewer bytes than this: a
// series has a metric's name, metadata the name of a family.
const (
	leastSeries   = 16
	leastV2Series = 12 // its names and values are elsewhere
	leastMetadata = 9  // a type and three letters
	leastSymbol   = 4  // with a reference to it
	// dense is how many parts a request may have whatever its size.
	dense = 64
)

// mostParts is how many parts of at least so many bytes each are believed.
func mostParts(bytes, least int) int { return bytes/least + dense }

func tooDense(what string, bytes int) error {
	return Errorf(Invalid, "write request: more %s than %d bytes can hold: most are empty", what, bytes)
}
