package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
)

// audited is the bucket of a tool. It logs each write that deletes a block, marks one or
// takes its mark away, or asks for a deletion of series, like the servers do for calls of
// their API.
type audited struct {
	bucket.Bucket
	log *slog.Logger

	mu sync.Mutex
	// deleted are blocks whose deletion was logged: their marks go with them.
	deleted map[ulid.ULID]bool
}

// newAudited returns the bucket of a command.
func newAudited(b bucket.Bucket, log *slog.Logger, command string) *audited {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return &audited{Bucket: b, log: log.With("command", command, "user", name, "host", host), deleted: map[ulid.ULID]bool{}}
}

// Upload implements bucket.Bucket.
func (a *audited) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	err := a.Bucket.Upload(ctx, name, r, size)
	if _, rel, ok := block.ParsePath(name); ok && isMark(rel) {
		a.note(ctx, "mark_block", name, err)
	} else if action := deletion.Action(name); action != "" {
		a.note(ctx, action, name, err)
	}
	return err
}

// Delete implements bucket.Bucket.
func (a *audited) Delete(ctx context.Context, name string) error {
	id, rel, ok := block.ParsePath(name)
	action := ""
	a.mu.Lock()
	switch {
	case !ok || a.deleted[id]:
	case rel == block.MetaFile:
		action, a.deleted[id] = "delete_block", true
	case isMark(rel):
		action = "unmark_block"
	}
	a.mu.Unlock()
	err := a.Bucket.Delete(ctx, name)
	if action != "" {
		a.note(ctx, action, name, err)
	}
	return err
}

func (a *audited) note(ctx context.Context, action, object string, err error) {
	attrs := []slog.Attr{slog.String("action", action), slog.String("object", object), slog.String("bucket", a.Name())}
	if err != nil {
		attrs = append(attrs, slog.String("result", "failed"), slog.Any("err", err))
	} else {
		attrs = append(attrs, slog.String("result", "success"))
	}
	a.log.LogAttrs(ctx, slog.LevelWarn, "audit", attrs...)
}

// GetVersion implements bucket.Conditional.
func (a *audited) GetVersion(ctx context.Context, name string, limit int64) ([]byte, bucket.Version, error) {
	return bucket.Conditions(a.Bucket).GetVersion(ctx, name, limit)
}

// PutIf implements bucket.Conditional.
func (a *audited) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (bucket.Version, error) {
	return bucket.Conditions(a.Bucket).PutIf(ctx, name, data, old)
}

func isMark(rel string) bool { return path.Dir(rel) == "." && strings.HasSuffix(rel, "-mark.json") }
