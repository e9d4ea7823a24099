package provider

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-kit/log"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/azure"
	"github.com/thanos-io/objstore/providers/bos"
	"github.com/thanos-io/objstore/providers/cos"
	"github.com/thanos-io/objstore/providers/gcs"
	"github.com/thanos-io/objstore/providers/obs"
	"github.com/thanos-io/objstore/providers/oci"
	"github.com/thanos-io/objstore/providers/oss"
	"github.com/thanos-io/objstore/providers/s3"
	"github.com/thanos-io/objstore/providers/swift"
)

// component is the name of the client in objstore. transport sets the user agent.
const component = "hindsight"

type wrapper = func(http.RoundTripper) http.RoundTripper

// kind is one type of object storage.
type kind struct {
	name   string
	strict func(content []byte) error
	// open is nil for the local filesystem, which is not from objstore.
	open func(ctx context.Context, l log.Logger, section []byte, wrap wrapper) (objstore.Bucket, error)
}

const filesystemKind = "FILESYSTEM"

// kinds returns all types of object storage.
func kinds() []kind {
	return []kind{
		{"S3", strictly[s3.Config], func(_ context.Context, l log.Logger, c []byte, w wrapper) (objstore.Bucket, error) {
			return s3.NewBucket(l, c, component, w)
		}},
		{"GCS", strictly[gcs.Config], func(ctx context.Context, l log.Logger, c []byte, w wrapper) (objstore.Bucket, error) {
			return gcs.NewBucket(ctx, l, c, component, w)
		}},
		{"AZURE", strictly[azure.Config], func(_ context.Context, l log.Logger, c []byte, w wrapper) (objstore.Bucket, error) {
			return azure.NewBucket(l, c, component, w)
		}},
		{"SWIFT", strictly[swift.Config], func(_ context.Context, l log.Logger, c []byte, w wrapper) (objstore.Bucket, error) {
			return swift.NewContainer(l, c, w)
		}},
		{"COS", strictly[cos.Config], func(_ context.Context, l log.Logger, c []byte, w wrapper) (objstore.Bucket, error) {
			return cos.NewBucket(l, c, component, w)
		}},
		{"ALIYUNOSS", strictly[oss.Config], func(_ context.Context, l log.Logger, c []byte, w wrapper) (objstore.Bucket, error) {
			return oss.NewBucket(l, c, component, w)
		}},
		{"BOS", strictly[bos.Config], func(_ context.Context, l log.Logger, c []byte, _ wrapper) (objstore.Bucket, error) {
			return bos.NewBucket(l, c, component)
		}},
		{"OCI", strictly[oci.Config], func(_ context.Context, l log.Logger, c []byte, w wrapper) (objstore.Bucket, error) {
			return oci.NewBucket(l, c, w)
		}},
		{"OBS", strictly[obs.Config], func(_ context.Context, l log.Logger, c []byte, _ wrapper) (objstore.Bucket, error) {
			return obs.NewBucket(l, c)
		}},
		{name: filesystemKind, strict: strictly[directoryConfig]},
	}
}

func kindOf(name string) (*kind, error) {
	all := kinds()
	names := make([]string, len(all))
	for i := range all {
		if strings.EqualFold(all[i].name, name) {
			return &all[i], nil
		}
		names[i] = all[i].name
	}
	if name == "" {
		return nil, fmt.Errorf("type is missing; known types are %s", strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("unknown type %q; known types are %s", name, strings.Join(names, ", "))
}
