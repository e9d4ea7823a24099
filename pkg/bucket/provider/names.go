package provider

import (
	"fmt"
	"regexp"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// checkBucket refuses a configuration without the name of the bucket, and a name
// that no bucket of the type can have, before any request is sent.
func (c *config) checkBucket() error {
	key := map[string]string{
		"AZURE": "container", "SWIFT": "container_name", filesystemKind: "directory",
	}[c.kind.name]
	if key == "" {
		key = "bucket"
	}
	if c.bucket == "" {
		if c.kind.name == "COS" {
			return nil // its endpoint may have the name of the bucket in it
		}
		return fmt.Errorf("type %s needs the key %s", c.kind.name, key)
	}
	if err := validName(c.kind.name, c.bucket); err != nil {
		return fmt.Errorf("%s %q cannot be the name of a bucket: %w", key, c.bucket, err)
	}
	return nil
}

// validName knows the rules of those types whose servers are the same everywhere.
func validName(kind, name string) error {
	rule := func(pattern, text string) error {
		if !regexp.MustCompile(pattern).MatchString(name) {
			return fmt.Errorf("it must be %s", text)
		}
		return nil
	}
	switch kind {
	case "S3":
		return s3utils.CheckValidBucketName(name)
	case "GCS":
		return rule(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`, "3 to 222 lower-case letters, digits, dashes, underscores and dots")
	case "AZURE":
		return rule(`^([a-z0-9](-?[a-z0-9]){2,62}|\$root|\$logs|\$web)$`, "3 to 63 lower-case letters, digits and single dashes")
	}
	return nil
}
