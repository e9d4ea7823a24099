package reason

// Reasons why a sidecar reads no blocks from the data directory of Prometheus, or
// ships none.
const (
	// NoBucket: no bucket is configured.
	NoBucket Reason = "no_bucket"
	// NoDataDirectory: the data directory does not exist or is no directory.
	NoDataDirectory Reason = "no_data_directory"
	// OutOfOrderInHead: the head of Prometheus may have out-of-order samples of any
	// time, because its write-behind log cannot be read.
	OutOfOrderInHead Reason = "out_of_order_in_head"
	// BlocksNotListed: Prometheus does not serve the list of its loaded blocks or
	// the lowest time of its head.
	BlocksNotListed Reason = "blocks_not_listed"
)
