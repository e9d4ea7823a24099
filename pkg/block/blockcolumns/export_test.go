package blockcolumns

// Pack compresses bytes and adds their checksum, so that tests reach what is behind it.
func Pack(plain []byte) []byte { return pack(nil, plain) }

// Unpack returns the bytes of Pack.
func Unpack(b []byte) ([]byte, error) { return unpack(nil, b, maxPlain) }

// The bounds of the labels and chunks of a series.
const (
	MaxLabels     = maxLabels
	MaxLabelBytes = maxLabelBytes
	MaxChunks     = maxChunks
	MaxPiece      = maxPiece
)
