package provider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Open opens the bucket that an objstore.yml describes, with retries, verified
// lengths and metrics. Errors of the content are marked with flags.Invalid. Open sends no
// request to the bucket; see Check.
func Open(ctx context.Context, content []byte, logger *slog.Logger, reg prometheus.Registerer) (bucket.Bucket, error) {
	return OpenFrom(ctx, func() ([]byte, error) { return content, nil }, logger, reg)
}

// OpenFrom is Open for a configuration that may change, such as a file. It is read again
// when the bucket refuses the credentials, so that rotated ones need no restart.
func OpenFrom(ctx context.Context, content func() ([]byte, error), logger *slog.Logger, reg prometheus.Registerer) (bucket.Bucket, error) {
	open := func(ctx context.Context) (bucket.Bucket, error) {
		yml, err := content()
		if err != nil {
			return nil, err
		}
		c, err := parse(yml)
		if err != nil {
			return nil, err
		}
		b, err := openKind(ctx, c, logger)
		if err != nil {
			return nil, err
		}
		return bucket.Prefix(b, c.prefix), nil
	}
	first, err := open(ctx)
	if err != nil {
		return nil, err
	}
	// A client outlives the operation that opened it.
	b := newReopening(first, logger, func(ctx context.Context) (bucket.Bucket, error) {
		return open(context.WithoutCancel(ctx))
	})
	return bucket.WithMetrics(bucket.Retry(b, bucket.DefaultRetry(), reg), reg), nil
}

// openKind opens a bucket of its type, without retries and metrics.
func openKind(ctx context.Context, c *config, logger *slog.Logger) (bucket.Bucket, error) {
	if c.kind.name == filesystemKind {
		b, err := openDirectory(c.bucket)
		if err != nil {
			return nil, flags.Invalid(err)
		}
		return b, nil
	}
	agent := fmt.Sprintf("hindsight/%s (%s)", cmpVersion(version.Version), runtime.Version())
	var filesErr error
	wrap := func(rt http.RoundTripper) http.RoundTripper {
		next, err := rereadTLS(rt, c.section, logger)
		if err != nil {
			filesErr, next = err, rt
		}
		return &transport{next: next, userAgent: agent, stall: stallTimeout}
	}
	b, err := c.kind.open(ctx, newKitLogger(logger), c.section, wrap)
	if filesErr != nil {
		err = filesErr
	}
	if err != nil {
		if nerr := net.Error(nil); errors.As(err, &nerr) {
			return nil, fmt.Errorf("open %s: %w", c.name(), err)
		}
		return nil, flags.Invalid(fmt.Errorf("open %s: %s", c.name(), flags.YAMLError(err).Error()))
	}
	return adapt(b, c.name()), nil
}

func cmpVersion(v string) string {
	if v == "" {
		return "unknown"
	}
	return v
}

// CheckConfig checks the content of an objstore.yml as Open does. It opens the client for
// the providers of which this neither reads credentials of the environment nor sends a
// request: S3 and the filesystem.
func CheckConfig(ctx context.Context, content []byte) error {
	c, err := parse(content)
	if err != nil || c.kind.name != "S3" && c.kind.name != filesystemKind {
		return err
	}
	b, err := openKind(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return b.Close()
}

// CheckDirectory returns an error if the content of an objstore.yml, which Open accepts,
// names a directory that does not exist. Open takes that for an empty bucket, which the
// first upload creates.
func CheckDirectory(content []byte) error {
	c, err := parse(content)
	if err != nil || c.kind.name != filesystemKind {
		return err
	}
	if _, err := os.Stat(c.bucket); err != nil {
		return fmt.Errorf("open bucket directory: %w; give the directory of a bucket that exists", err)
	}
	return nil
}

// checkTimeout bounds Check.
const checkTimeout = 30 * time.Second

// probeDir is listed by Check: a directory that does not exist costs least.
const probeDir = "debug/probe"

// Check lists a directory that almost certainly does not exist. For refused credentials
// and a missing bucket it returns one line marked with flags.Invalid; any other error may
// be temporary.
func Check(ctx context.Context, b bucket.Bucket) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	stop := errors.New("stop listing")
	err := b.List(ctx, probeDir, func(bucket.Object) error { return stop })
	switch {
	case err == nil, errors.Is(err, stop):
		return nil
	case errors.Is(err, bucket.ErrAccessDenied):
		return flags.Invalid(fmt.Errorf("bucket %s refuses the credentials: %w", b.Name(), cause(err, bucket.ErrAccessDenied)))
	case errors.Is(err, bucket.ErrNoBucket):
		return flags.Invalid(fmt.Errorf("bucket %s does not exist: %w", b.Name(), cause(err, bucket.ErrNoBucket)))
	case errors.Is(err, bucket.ErrPermanent):
		return flags.Invalid(fmt.Errorf("bucket %s refuses requests: %w", b.Name(), cause(err, bucket.ErrPermanent)))
	}
	return fmt.Errorf("reach bucket %s: %w", b.Name(), err)
}

// cause returns the error that err joins with kind.
func cause(err, kind error) error {
	for {
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				if !errors.Is(e, kind) {
					return e
				}
			}
			return err
		default:
			return err
		}
	}
}
