package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"cloud.google.com/go/storage"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"google.golang.org/api/googleapi"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// conditionKey is the key of the http.Header of conditions in the context of an
// operation.
type conditionKey struct{}

// withCondition returns a context whose uploads to S3 have the conditions of the header.
// The transport adds them after the request was signed: signatures of S3 cover the headers
// that they name, and have to name the host and the headers of Amazon only. objstore
// passes no options of uploads to the client.
func withCondition(ctx context.Context, h http.Header) context.Context {
	return context.WithValue(ctx, conditionKey{}, h)
}

// addCondition adds the conditions of the operation to an upload.
func addCondition(req *http.Request) {
	h, ok := req.Context().Value(conditionKey{}).(http.Header)
	if !ok || req.Method != http.MethodPut {
		return
	}
	for name, values := range h {
		req.Header[name] = values
	}
}

// conditionHeader says that the version of the object must be old.
func conditionHeader(old bucket.Version) http.Header {
	if old == bucket.NoVersion {
		return http.Header{"If-None-Match": {"*"}}
	}
	return http.Header{"If-Match": {string(old)}}
}

// readLimited returns the whole of a body of at most limit bytes, and closes it.
func readLimited(rc io.ReadCloser, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err = errors.Join(err, rc.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: %w: more than %d bytes", name, bucket.ErrTooLarge, limit)
	}
	return data, nil
}

// GetVersion implements bucket.Conditional. The version is the ETag in the answer that
// has the content, so that the two belong together.
func (a *adapter) GetVersion(ctx context.Context, name string, limit int64) ([]byte, bucket.Version, error) {
	if err := ctx.Err(); err != nil {
		return nil, bucket.NoVersion, err
	}
	if a.gcs != nil {
		return a.generation(ctx, name, limit)
	}
	if a.condition == nil {
		return nil, bucket.NoVersion, bucket.ErrNoConditions
	}
	sctx, s := withStatus(ctx)
	rc, err := a.next.Get(sctx, name)
	if err != nil {
		return nil, bucket.NoVersion, a.mapErr(ctx, s, "get", name, err)
	}
	first := s.version()
	data, err := readLimited(&mappedBody{ReadCloser: rc, a: a, ctx: ctx, status: s, name: name}, name, limit)
	switch {
	case err != nil:
		return nil, bucket.NoVersion, err
	case first == "":
		return nil, bucket.NoVersion, fmt.Errorf("read %s: %w: the answer has no ETag", name, bucket.ErrNoConditions)
	case s.version() != first:
		return nil, bucket.NoVersion, fmt.Errorf("read %s: the object was replaced while it was read", name)
	}
	return data, bucket.Version(first), nil
}

// PutIf implements bucket.Conditional.
func (a *adapter) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (bucket.Version, error) {
	if err := errors.Join(ctx.Err(), bucket.CheckName(name)); err != nil {
		return bucket.NoVersion, err
	}
	if a.gcs != nil {
		return a.putGeneration(ctx, name, data, old)
	}
	if a.condition == nil {
		return bucket.NoVersion, bucket.ErrNoConditions
	}
	sctx, s := withStatus(ctx)
	err := a.next.Upload(a.condition(sctx, conditionHeader(old)), name, bytes.NewReader(data))
	if err == nil {
		if v := s.version(); v != "" {
			return bucket.Version(v), nil
		}
		return bucket.NoVersion, fmt.Errorf("write %s: %w: the answer has no ETag", name, bucket.ErrNoConditions)
	}
	return bucket.NoVersion, a.mapConditionErr(ctx, s, name, old, err)
}

// mapConditionErr finds the answers that say that the condition does not hold, or that
// the server knows no conditions. Amazon answers 409 when another write runs at the same
// time, which is temporary; Azure does when the object exists.
func (a *adapter) mapConditionErr(ctx context.Context, s *statusRecorder, name string, old bucket.Version, err error) error {
	wrap := func(kind error) error { return fmt.Errorf("write %s: %w: %w", name, kind, err) }
	switch status := s.last.Load(); {
	case ctx.Err() != nil:
	case status == http.StatusPreconditionFailed:
		return wrap(bucket.ErrChanged)
	case status == http.StatusConflict && azureExists(err):
		return wrap(bucket.ErrChanged)
	case old != bucket.NoVersion && a.next.IsObjNotFoundErr(err):
		return wrap(bucket.ErrChanged)
	case status == http.StatusNotImplemented:
		return wrap(bucket.ErrNoConditions)
	}
	return a.mapErr(ctx, s, "write", name, err)
}

// generation is GetVersion of GCS, where versions are generations.
func (a *adapter) generation(ctx context.Context, name string, limit int64) ([]byte, bucket.Version, error) {
	sctx, s := withStatus(ctx)
	r, err := a.gcs.Object(name).NewReader(sctx)
	if err != nil {
		return nil, bucket.NoVersion, a.mapErr(ctx, s, "get", name, err)
	}
	data, err := readLimited(r, name, limit)
	if err != nil {
		return nil, bucket.NoVersion, a.mapErr(ctx, s, "get", name, err)
	}
	return data, bucket.Version(strconv.FormatInt(r.Attrs.Generation, 10)), nil
}

// putGeneration is PutIf of GCS.
func (a *adapter) putGeneration(ctx context.Context, name string, data []byte, old bucket.Version) (bucket.Version, error) {
	cond := storage.Conditions{DoesNotExist: true}
	if old != bucket.NoVersion {
		gen, err := strconv.ParseInt(string(old), 10, 64)
		if err != nil || gen <= 0 {
			return bucket.NoVersion, fmt.Errorf("write %s: %w: %q is no generation", name, bucket.ErrPermanent, old)
		}
		cond = storage.Conditions{GenerationMatch: gen}
	}
	sctx, s := withStatus(ctx)
	w := a.gcs.Object(name).If(cond).NewWriter(sctx)
	w.ChunkSize = 0 // one request
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err == nil {
		return bucket.Version(strconv.FormatInt(w.Attrs().Generation, 10)), nil
	}
	if g := (*googleapi.Error)(nil); errors.As(err, &g) && g.Code == http.StatusPreconditionFailed {
		return bucket.NoVersion, fmt.Errorf("write %s: %w: %w", name, bucket.ErrChanged, err)
	}
	return bucket.NoVersion, a.mapErr(ctx, s, "write", name, err)
}

// azureExists says whether Azure refused to create a blob because it exists.
func azureExists(err error) bool { return bloberror.HasCode(err, bloberror.BlobAlreadyExists) }
