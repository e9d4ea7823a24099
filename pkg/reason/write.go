package reason

// Reasons why a part of a write was not stored.
const (
	// Malformed: the bytes are no valid message of the protocol.
	Malformed Reason = "malformed"
	// MalformedMetadata: a metadata message is not valid; samples are stored.
	MalformedMetadata Reason = "malformed_metadata"
	// MalformedExemplar: an exemplar is not valid; samples are stored.
	MalformedExemplar Reason = "malformed_exemplar"
	// MalformedSeries: the labels or items of a series cannot be read or relabelled.
	MalformedSeries Reason = "malformed_series"
	// InvalidSample: the value of a sample or histogram is not valid.
	InvalidSample Reason = "invalid_sample"

	// Labels of a series.
	DuplicateLabel    Reason = "duplicate_label"
	EmptyLabelName    Reason = "empty_label_name"
	InvalidUTF8       Reason = "invalid_utf8"
	LabelNameTooLong  Reason = "label_name_too_long"
	LabelValueTooLong Reason = "label_value_too_long"
	LabelTooLong      Reason = "label_too_long"
	NoLabels          Reason = "no_labels"
	NoMetricName      Reason = "no_metric_name"
	TooManyLabels     Reason = "too_many_labels"

	// Time of a sample or exemplar against that of its series and the TSDB.
	DuplicateTimestamp Reason = "duplicate_timestamp"
	OutOfBounds        Reason = "out_of_bounds"
	OutOfOrder         Reason = "out_of_order"
	OutOfOrderExemplar Reason = "out_of_order_exemplar"
	TooFarInFuture     Reason = "too_far_in_future"
	TooFarInPast       Reason = "too_far_in_past"
	TooOld             Reason = "too_old"

	// ExemplarLabelsTooLong: the labels of an exemplar exceed the limit of
	// OpenMetrics.
	ExemplarLabelsTooLong Reason = "exemplar_labels_too_long"
	// The reasons below are of OTLP only: attributes, names and types that cannot
	// become series.
	InvalidResource          Reason = "invalid_resource"
	InvalidResourceAttribute Reason = "invalid_resource_attribute"
	InvalidScope             Reason = "invalid_scope"
	InvalidMetricName        Reason = "invalid_metric_name"
	InvalidDataPoint         Reason = "invalid_data_point"
	UnknownMetricType        Reason = "unknown_metric_type"
	NotCumulative            Reason = "not_cumulative"
	NotTranslatable          Reason = "not_translatable"

	// SeriesLimit: the series is new and the tenant has as many as it may have.
	SeriesLimit Reason = "series_limit"
	// TooManyConnections: the server has as many connections as it may have.
	TooManyConnections Reason = "too_many_connections"
	// QueueFull: the queue of a peer holds as many bytes as it may.
	QueueFull Reason = "queue_full"
	// PeerNotAnswering: a peer takes too long for one message.
	PeerNotAnswering Reason = "peer_not_answering"
	// Storage: the TSDB returned another error.
	Storage Reason = "storage"
)
