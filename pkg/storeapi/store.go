package storeapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// Store is a source of series: the TSDB of a tenant, a Prometheus server, the
// blocks of a bucket, a remote StoreAPI server, or several of these together.
//
// All methods may be called concurrently.
type Store interface {
	// Info describes the current data of the store. It is cheap: it does no I/O.
	Info() Info

	// Select returns the series that match the request, in ascending order of the
	// returned label sets (external labels added, replica labels removed): that of
	// labels.Compare, or with SortWithout that of Request.Order. It never returns
	// nil; errors are in the set.
	// The set ends early, with an error, when ctx is cancelled.
	Select(ctx context.Context, r *Request) SeriesSet

	// LabelNames returns the sorted, unique label names of the matching
	// series. No matchers means all series.
	LabelNames(ctx context.Context, r *Request) ([]string, Warnings, error)

	// LabelValues returns the sorted, unique values of the label name among the
	// matching series. No matchers means all series. The values of a label
	// that the request removes (WithoutReplicaLabels) are empty.
	LabelValues(ctx context.Context, name string, r *Request) ([]string, Warnings, error)
}

// Info describes the data of a Store, as the gRPC Info service announces it.
type Info struct {
	// Component is the type in the words of the Info service: "sidecar",
	// "store", "receive", "query", "rule", or "debug".
	Component string
	// LabelSets are the external label sets of the data. Empty means unknown:
	// any label may occur.
	LabelSets []labels.Labels
	// MinTime and MaxTime bound the data, inclusive, in milliseconds.
	MinTime, MaxTime int64
	// TSDBs describes the parts of the store, one entry per label set and
	// contiguous range.
	TSDBs []TSDBInfo
	// Unknown says that the store has never answered, so that nothing is known of
	// its data.
	Unknown bool
	// NoStore says that the server announced that it has no Store API, but others,
	// as a ruler without storage: there is nothing to select from it.
	NoStore bool
	// Instance identifies the process of a querier, so that it recognises itself;
	// empty for others.
	Instance string
	// Evaluates are the settings with which the server evaluates queries over its own
	// data, as a store gateway does; empty when it does not.
	Evaluates string
	// SupportsSharding says that Request.Shard is applied by the store.
	SupportsSharding bool
	// SupportsWithoutReplicaLabels says that Request.WithoutReplicaLabels is
	// applied by the store, and the order is that of the result.
	SupportsWithoutReplicaLabels bool
	// SupportsSortWithout says that the store obeys Request.SortWithout.
	SupportsSortWithout bool
	// Warnings are problems of the store that its operators should know, for example
	// external labels that another source has too.
	Warnings []string
}

// TSDBInfo is one part of a store. Times are inclusive milliseconds.
type TSDBInfo struct {
	Labels           labels.Labels
	MinTime, MaxTime int64
}

// Warning is a problem that left an answer usable but perhaps not complete.
type Warning struct {
	// Source names the store that the warning is about, empty when the text
	// names it itself.
	Source string
	Text   string
}

// collision begins the text of a warning about different series that became one
// in the answer. The wire carries only the text.
const collision = "different series appear as one"

// CollisionWarning is the warning about series that became one because an external
// label overrides a label of theirs. example is the label set that they got.
func CollisionWarning(example labels.Labels) Warning {
	return Warning{Text: fmt.Sprintf("%s, because a label of theirs is hidden by the external label of that name: %s", collision, example)}
}

// IsCollision reports whether the warning is about series that became one in the
// answer. Nothing is missing then, so it does not fail a request that refuses
// partial answers.
func (w Warning) IsCollision() bool { return strings.Contains(w.Text, collision) }

// LacksNothing reports whether the answer has everything that was asked for in
// spite of the warning: series became one, or the client's own limit cut the
// answer.
func (w Warning) LacksNothing() bool {
	return w.IsCollision() || strings.Contains(w.Text, "results truncated due to limit")
}

// Warnings is a list of warnings in the order in which they occurred.
type Warnings []Warning

// Strings returns the texts, without exact duplicates.
func (ws Warnings) Strings() []string {
	seen := make(map[string]struct{}, len(ws))
	out := make([]string, 0, len(ws))
	for _, w := range ws {
		if _, ok := seen[w.Text]; ok {
			continue
		}
		seen[w.Text] = struct{}{}
		out = append(out, w.Text)
	}
	return out
}
