package provider

import (
	"errors"

	"github.com/minio/minio-go/v7"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// s3Kind returns our error for the code of an S3 error, or nil. Not every
// server sends the usual HTTP status with a code.
func s3Kind(err error) error {
	var resp minio.ErrorResponse
	if !errors.As(err, &resp) {
		return nil
	}
	switch resp.Code {
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
		"AccountProblem", "AllAccessDisabled", "NotSignedUp", "XAdminUserNotFound":
		return bucket.ErrAccessDenied
	case "InvalidObjectState": // in an archive class of storage, from which it must be restored first
		return bucket.ErrPermanent
	case "InvalidBucketName", "PermanentRedirect", "MovedPermanently":
		return bucket.ErrPermanent
	case "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "ServiceQuotaExceeded":
		return bucket.ErrFull
	case "NoSuchBucket":
		return bucket.ErrNoBucket
	}
	return nil
}
