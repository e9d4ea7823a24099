package reason

// Reasons why a request to /federate failed, besides Storage.
const (
	// FederateInvalid: the parameters of the request are invalid.
	FederateInvalid Reason = "bad_request"
	// FederateLimit: the request has more series than a limit allows.
	FederateLimit Reason = "limit"
	// FederateEncode: a series could not be encoded.
	FederateEncode Reason = "encode"
	// FederateSend: the answer could not be sent to the client.
	FederateSend Reason = "write"
)
