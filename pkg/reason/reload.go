package reason

// Reasons of a reload of the configuration.
const (
	// ReloadSignal: the process got SIGHUP.
	ReloadSignal Reason = "signal"
	// ReloadRequest: a client sent POST /-/reload.
	ReloadRequest Reason = "request"
)
