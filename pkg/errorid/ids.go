package errorid

// Starts and command lines.
const (
	FlagInvalid        ID = "hs-flag-invalid"
	InvalidInput       ID = "hs-invalid-input"
	BucketUnconfigured ID = "hs-bucket-unconfigured"
	DirectoryInUse     ID = "hs-directory-in-use"
	AddressInUse       ID = "hs-address-in-use"
	CommandFailed      ID = "hs-command-failed"
	Interrupted        ID = "hs-interrupted"
	ProblemsFound      ID = "hs-problems-found"
	ReloadFailed       ID = "hs-reload-failed"
)

// The operating system, the network, and faults of the program.
const (
	DiskFull       ID = "hs-disk-full"
	DiskReadOnly   ID = "hs-disk-read-only"
	OpenFiles      ID = "hs-open-files"
	FileMissing    ID = "hs-file-missing"
	FilePermission ID = "hs-file-permission"
	Unreachable    ID = "hs-unreachable"
	DNS            ID = "hs-dns"
	TLS            ID = "hs-tls"
	Timeout        ID = "hs-timeout"
	Canceled       ID = "hs-canceled"
	Internal       ID = "hs-internal"
)

// HTTP and gRPC servers.
const (
	BadRequest         ID = "hs-bad-request"
	HTTPNotFound       ID = "hs-not-found"
	HTTPMethod         ID = "hs-method"
	Unauthorized       ID = "hs-unauthorized"
	Forbidden          ID = "hs-forbidden"
	AdminDisabled      ID = "hs-admin-disabled"
	BodyTooLarge       ID = "hs-body-too-large"
	SlowBody           ID = "hs-slow-body"
	MediaType          ID = "hs-media-type"
	TooManyRequests    ID = "hs-too-many-requests"
	TooManyConnections ID = "hs-too-many-connections"
	NotReady           ID = "hs-not-ready"
	ShuttingDown       ID = "hs-shutting-down"
	SlowClient         ID = "hs-slow-client"
	TenantInvalid      ID = "hs-tenant-invalid"
)

// Queries, and the stores that they read.
const (
	QueryInvalid      ID = "hs-query-invalid"
	QueryFailed       ID = "hs-query-failed"
	QueryTimeout      ID = "hs-query-timeout"
	QueryCanceled     ID = "hs-query-canceled"
	QueryBusy         ID = "hs-query-busy"
	QueryEnded        ID = "hs-query-ended"
	QuerySettings     ID = "hs-query-settings"
	QueryRefused      ID = "hs-query-refused"
	PartialRefused    ID = "hs-partial-refused"
	StoreInvalid      ID = "hs-store-invalid-request"
	StoreNoMatchers   ID = "hs-store-no-matchers"
	StoreNotFound     ID = "hs-store-not-found"
	StoreUnavailable  ID = "hs-store-unavailable"
	StoreNeverReached ID = "hs-store-never-reached"
	StoreNoAddress    ID = "hs-store-no-address"
	StoreDown         ID = "hs-store-down"
	StoreTimeout      ID = "hs-store-timeout"
	StoreFailed       ID = "hs-store-failed"
	StoreLimit        ID = "hs-store-limit"
	StoreInvalidData  ID = "hs-store-invalid-data"
	StoreWarning      ID = "hs-store-warning"
	StoreLoop         ID = "hs-store-loop"
)

// Limits of answers.
const (
	LimitExceeded     ID = "hs-limit-exceeded"
	LimitQuerySamples ID = "hs-limit-query-samples"
	LimitQuerySeries  ID = "hs-limit-query-series"
	LimitQueryChunks  ID = "hs-limit-query-chunks"
	LimitQueryBytes   ID = "hs-limit-query-bytes"
	LimitQueryList    ID = "hs-limit-query-list"
	LimitQueryPoints  ID = "hs-limit-query-points"
	LimitQueryMemory  ID = "hs-limit-query-memory"
	LimitFederate     ID = "hs-limit-federate"
	LimitStoreSeries  ID = "hs-limit-store-series"
	LimitStoreSamples ID = "hs-limit-store-samples"
	LimitStoreBytes   ID = "hs-limit-store-bytes"
	LimitStoreMemory  ID = "hs-limit-store-memory"
	LimitToolMemory   ID = "hs-limit-tool-memory"
	LimitToolDisk     ID = "hs-limit-tool-disk"
)

// Writes.
const (
	WriteFailed        ID = "hs-write-failed"
	WriteInvalid       ID = "hs-write-invalid"
	WriteConflict      ID = "hs-write-conflict"
	WriteLimit         ID = "hs-write-limit"
	WriteTooLarge      ID = "hs-write-too-large"
	WriteNotReady      ID = "hs-write-not-ready"
	WriteUnavailable   ID = "hs-write-unavailable"
	WriteNoQuorum      ID = "hs-write-no-quorum"
	WriteBusy          ID = "hs-write-busy"
	WriteMalformed     ID = "hs-write-malformed"
	WriteSample        ID = "hs-write-invalid-sample"
	WriteLabels        ID = "hs-write-invalid-labels"
	WriteLabelLimits   ID = "hs-write-label-limits"
	WriteDuplicate     ID = "hs-write-duplicate-timestamp"
	WriteOutOfOrder    ID = "hs-write-out-of-order"
	WriteTooOld        ID = "hs-write-too-old"
	WriteInFuture      ID = "hs-write-in-future"
	WriteExemplar      ID = "hs-write-exemplar"
	WriteOTLP          ID = "hs-write-otlp"
	WriteSeriesLimit   ID = "hs-write-series-limit"
	WriteRequestLimits ID = "hs-write-request-limits"
	WriteTenantLimit   ID = "hs-write-tenant-limit"
	PeerQueueFull      ID = "hs-peer-queue-full"
	PeerNotAnswering   ID = "hs-peer-not-answering"
	MemberLost         ID = "hs-member-lost"
)

// Blocks, and the jobs of the compactor and of the shipper.
const (
	BlockMeta        ID = "hs-block-meta"
	BlockMark        ID = "hs-block-mark"
	BlockCorrupt     ID = "hs-block-corrupt"
	BlockUnreadable  ID = "hs-block-unreadable"
	BlockTimes       ID = "hs-block-times"
	BlockNotCopies   ID = "hs-block-not-copies"
	BlockMismatch    ID = "hs-block-result-mismatch"
	BlockUpload      ID = "hs-block-upload-mismatch"
	BlockNoLabels    ID = "hs-block-no-labels"
	BlockUploadOpen  ID = "hs-block-upload-open"
	BlockNotShipped  ID = "hs-block-not-shipped"
	BlockVanished    ID = "hs-block-vanished"
	JobPanicked      ID = "hs-job-panicked"
	LeaseConflict    ID = "hs-lease-conflict"
	LeaseLost        ID = "hs-lease-lost"
	DeletionDecided  ID = "hs-deletion-decided"
	DeletionsUnknown ID = "hs-deletions-unknown"
)

// Object storage.
const (
	BucketObjectMissing ID = "hs-bucket-object-missing"
	BucketDenied        ID = "hs-bucket-access-denied"
	BucketMissing       ID = "hs-bucket-missing"
	BucketGone          ID = "hs-bucket-gone"
	BucketFull          ID = "hs-bucket-full"
	BucketChanged       ID = "hs-bucket-changed"
	BucketNoConditions  ID = "hs-bucket-no-conditions"
	BucketObject        ID = "hs-bucket-object"
	BucketStalled       ID = "hs-bucket-stalled"
	BucketPermanent     ID = "hs-bucket-permanent"
)

// Sidecars.
const (
	PrometheusDown     ID = "hs-prometheus-down"
	PrometheusLabels   ID = "hs-prometheus-labels"
	PrometheusRefused  ID = "hs-prometheus-refused"
	PrometheusSettings ID = "hs-prometheus-settings"
)

// general reports whether errors of many causes have the id, so that the id of a cause
// says more.
func (id ID) general() bool {
	switch id {
	case InvalidInput, CommandFailed, ProblemsFound, ReloadFailed, Internal, BadRequest, NotReady,
		QueryInvalid, QueryFailed, QueryRefused, PartialRefused, StoreInvalid, StoreNotFound, StoreUnavailable, StoreFailed, LimitExceeded,
		WriteFailed, WriteInvalid, WriteConflict, WriteLimit, WriteUnavailable, WriteNotReady, WriteNoQuorum,
		BlockUnreadable, BucketPermanent:
		return true
	}
	return false
}
