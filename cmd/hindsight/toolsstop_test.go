package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
)

// TestTools_StopWhenTheNextBlockWouldFailToo reads many blocks of a storage that does not answer
// any more, or onto a full disk: the command ends with the first of them. After another error
// it goes on with the others.
func TestTools_StopWhenTheNextBlockWouldFailToo(t *testing.T) {
	var text strings.Builder
	for i := range 5 {
		fmt.Fprintf(&text, "block a%d range=%dh..%dh labels={cluster=\"eu\"}\n  up{job=\"j\"}  %dh..%dh/1m:1+1\n", i, 2*i, 2*i+2, 2*i, 2*i+2)
	}
	s := newToolSite(t, text.String())
	for _, c := range []struct {
		err  error
		want int
	}{{context.DeadlineExceeded, 1}, {syscall.ENOSPC, 1}, {buckettest.ErrInjected, 5}} {
		failed := map[string]bool{}
		faulty := buckettest.NewFaulty(s.bkt, func(op buckettest.Op) buckettest.Fault {
			id, rel, _ := block.ParsePath(op.Name)
			if op.Kind == "list" || rel != block.IndexFile && rel != block.SegmentName(1) {
				return buckettest.Fault{}
			}
			failed[id.String()] = true
			return buckettest.Fault{Err: c.err}
		})
		p := &process{logger: slog.New(slog.DiscardHandler), registry: prometheus.NewRegistry()}
		v, err := poll(t.Context(), p, faulty, 1)
		require.NoError(t, err)
		out := streams{out: &bytes.Buffer{}, err: &bytes.Buffer{}}
		verify := &verifyConfig{issues: []string{bucketadmin.IssueIndex}, workDir: t.TempDir()}
		_, err = verify.read(t.Context(), out, faulty, v, nil)
		require.Error(t, err)
		require.Len(t, failed, c.want, "%v", c.err)
		require.Contains(t, failed, blocktest.ID("a0").String())
	}
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprint("block ", i))
	}
	require.Contains(t, oneLine(fmt.Errorf("%s", strings.Join(all, "\n"))), "block 9 and 90 more")
}
