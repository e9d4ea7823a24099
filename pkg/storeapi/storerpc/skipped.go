package storerpc

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// skippedKey is in the trailer of an answer once for each store that the server did not
// ask although nothing is missing without it: reason and name. Others ignore it.
const skippedKey = "hindsight-skipped-bin"

// maxSkipped bounds the skipped stores in one trailer, maxSkippedName their names.
const (
	maxSkipped     = 64
	maxSkippedName = 256
)

// skippedTrailer is the trailer for the stores that were skipped, or nil. Those that the
// server is itself are its own affair.
func skippedTrailer(report *storeapi.Report) metadata.MD {
	md := metadata.MD{}
	for _, s := range report.Skipped() {
		if s.Reason != reason.StoreIsSelf && len(md[skippedKey]) < maxSkipped {
			md.Append(skippedKey, string(s.Reason)+" "+s.Store[:min(len(s.Store), maxSkippedName)])
		}
	}
	return md
}

// noteSkipped puts the skipped stores of a trailer into the report of ctx. server is the
// name of the one that sent it.
func noteSkipped(ctx context.Context, md metadata.MD, server string) {
	report := storeapi.ReportFromContext(ctx)
	all := md.Get(skippedKey)
	for _, s := range all[:min(len(all), maxSkipped)] {
		why, name, _ := strings.Cut(s, " ")
		switch r := reason.Reason(why); r {
		case reason.StoreInLoop, reason.StoreAskedElsewhere:
			name = strings.ToValidUTF8(name[:min(len(name), maxSkippedName)], "\uFFFD")
			report.Skip(storeapi.Skipped{Store: fmt.Sprintf("%s of %s", name, server), Reason: r})
		}
	}
}
