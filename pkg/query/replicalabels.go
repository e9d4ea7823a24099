package query

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// replicaDetector knows the replica labels that the stores show. A label that was
// detected stays as long as any store announces it: the answers of a replica set do not
// change while only one of its servers is left. It may be used concurrently.
type replicaDetector struct {
	// stores returns what all stores announce that requests read.
	stores func() []storeapi.Info
	logger *slog.Logger
	gauge  *prometheus.GaugeVec

	mtx sync.Mutex
	// seen is what the stores announced when the labels were detected.
	seen  []announcement
	found []string
}

// announcement tells one answer of a store about itself from another: an answer has
// lists of its own, which nobody changes.
type announcement struct {
	sets  *labels.Labels
	tsdbs *storeapi.TSDBInfo
	// numSets and numTSDBs are their lengths.
	numSets, numTSDBs int
}

func newReplicaDetector(stores func() []storeapi.Info, deps Deps) *replicaDetector {
	return &replicaDetector{stores: stores, logger: deps.Logger, gauge: promauto.With(deps.Registerer).NewGaugeVec(prometheus.GaugeOpts{
		Name: "hindsight_query_detected_replica_label_info",
		Help: "1 for each label that is removed as a replica label because of what the stores announce.",
	}, []string{"label"})}
}

// names returns the replica labels, sorted. It looks at the label sets of the stores only
// when one of them has announced something since. The caller must not change the result.
func (d *replicaDetector) names() []string {
	infos := d.stores()
	seen := make([]announcement, len(infos))
	for i, info := range infos {
		seen[i] = announcementOf(info)
	}
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if !slices.Equal(seen, d.seen) {
		d.seen = seen
		var sets []labels.Labels
		for _, info := range infos {
			sets = append(sets, info.LabelSets...)
			for _, t := range info.TSDBs {
				sets = append(sets, t.Labels)
			}
		}
		d.update(sets)
	}
	return d.found
}

func announcementOf(info storeapi.Info) announcement {
	a := announcement{numSets: len(info.LabelSets), numTSDBs: len(info.TSDBs)}
	if a.numSets > 0 {
		a.sets = &info.LabelSets[0]
	}
	if a.numTSDBs > 0 {
		a.tsdbs = &info.TSDBs[0]
	}
	return a
}

// update detects the labels anew.
func (d *replicaDetector) update(sets []labels.Labels) {
	var found []string
	for _, l := range dedup.DetectReplicaLabels(sets) {
		found = append(found, l.Name)
		if !slices.Contains(d.found, l.Name) {
			d.logger.Info("replica label detected", "label", l.Name, "announced", l.Evidence[0].String(), "and", l.Evidence[1].String())
			d.gauge.WithLabelValues(l.Name).Set(1)
		}
	}
	for _, name := range d.found {
		switch {
		case slices.Contains(found, name):
		case slices.ContainsFunc(sets, func(ls labels.Labels) bool { return ls.Has(name) }):
			found = append(found, name)
		default:
			d.logger.Info("replica label no longer announced", "label", name)
			d.gauge.DeleteLabelValues(name)
		}
	}
	slices.Sort(found)
	d.found = found
}

// detects says whether replica labels are detected: the flags name none.
func (c *Config) detects() bool {
	return c.DetectReplicaLabels && len(c.ReplicaLabels.Values()) == 0
}

// announcements are those of the stores that requests read.
func (q *Query) announcements() []storeapi.Info {
	var out []storeapi.Info
	for _, s := range q.stores() {
		info := s.Info()
		if _, ok := q.keeps(info); ok && !info.NoStore {
			out = append(out, info)
		}
	}
	return out
}
