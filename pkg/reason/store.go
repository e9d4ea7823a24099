package reason

// Reasons why an answer may lack the data of a store.
const (
	// StoreNeverReached: the configuration names the store, and it has not answered
	// since the querier started.
	StoreNeverReached Reason = "store_never_reached"
	// StoreNotFound: the configuration names the store, and discovery finds no
	// address of it.
	StoreNotFound Reason = "store_not_found"
	// StoreDown: the store answered before, and does not answer the Info call now.
	StoreDown Reason = "store_down"
	// StoreTimeout: the store was silent for longer than its time-out.
	StoreTimeout Reason = "store_timeout"
	// StoreFailed: the store answered the request with an error, or its connection
	// broke.
	StoreFailed Reason = "store_failed"
	// StoreLimit: the answer of the store exceeds a limit, here or at the store.
	StoreLimit Reason = "store_limit"
	// StoreInvalidData: a part of the answer cannot be read, or was not asked for,
	// and is left out.
	StoreInvalidData Reason = "store_invalid_data"
	// StoreWarning: the store itself reports that its answer lacks something.
	StoreWarning Reason = "store_warning"
	// StoreIsSelf: the store is the querier itself. Nothing is missing.
	StoreIsSelf Reason = "store_is_self"
	// StoreInLoop: another querier on the way of the request asks the store.
	// Nothing is missing.
	StoreInLoop Reason = "store_in_loop"
	// StoreAskedElsewhere: the store is a querier that another querier on the way of the
	// request asks. Nothing is missing.
	StoreAskedElsewhere Reason = "store_asked_elsewhere"
)

// Reasons why a store is not asked, beside StoreIsSelf, StoreInLoop and
// StoreAskedElsewhere. Nothing is missing.
const (
	// StoreOtherTimes: the store announces no data of the times of the request.
	StoreOtherTimes Reason = "store_other_times"
	// StoreOtherLabels: no label set that the store announces can match.
	StoreOtherLabels Reason = "store_other_labels"
	// StoreFiltered: the configuration or the request (storeMatch[]) leaves the store out.
	StoreFiltered Reason = "store_filtered"
	// StoreWithoutSeries: the server announces that it has no Store API.
	StoreWithoutSeries Reason = "store_without_series"
)
