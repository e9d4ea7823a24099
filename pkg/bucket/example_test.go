package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// A program writes below a prefix, with retries and metrics, and reads a range.
func Example() {
	ctx := context.Background()
	b := bucket.WithMetrics(bucket.Retry(bucket.Prefix(bucket.NewMemory(), "team-a"), bucket.DefaultRetry(), nil), nil)
	defer b.Close()
	if err := b.Upload(ctx, "dir/object", strings.NewReader("0123456789"), 10); err != nil {
		fmt.Println(err)
		return
	}
	_ = b.List(ctx, "dir", func(o bucket.Object) error {
		fmt.Println(o.Name, o.Size)
		return nil
	})
	body, err := b.GetRange(ctx, "dir/object", 3, 4)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	var part string
	_, _ = fmt.Fscan(body, &part)
	fmt.Println(part)
	_, err = b.Stat(ctx, "dir/other")
	fmt.Println(errors.Is(err, bucket.ErrNotFound))
	// Output:
	// dir/object 10
	// 3456
	// true
}
