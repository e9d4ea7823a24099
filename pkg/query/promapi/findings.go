package promapi

import (
	"cmp"
	"net/http"

	"github.com/hindsight-io/hindsight/pkg/doctor"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
)

// storeFindings lists what is wrong with the labels and the times that stores announce, as
// "tools doctor" reports it. Findings are for operators: a tenant that sees only its own
// data gets none.
func (a *API) storeFindings(w http.ResponseWriter, r *http.Request) {
	found := []doctor.Finding{}
	if p, ok := queryopts.FromContext(r.Context()); !ok || p.Enforced == nil {
		found = append(found, doctor.Diagnose(doctor.Input{Now: a.cfg.Now(), Stores: a.announcements()}, doctor.Options{})...)
	}
	writeData(w, map[string]any{"findings": found}, nil)
}

// announcements are the stores that have been contacted, as the doctor takes them.
func (a *API) announcements() []doctor.Store {
	var out []doctor.Store
	for _, s := range a.cfg.Stores() {
		if !s.Contacted && s.LastError == "" {
			continue
		}
		st := doctor.Store{
			Address: s.Name, Component: s.Component, LabelSets: s.LabelSets, MaxTime: s.MaxTime, Warnings: s.Warnings,
		}
		if s.Health == "missing" {
			// Its labels may be those of the process that replaced it.
			st.Err, st.LabelSets, st.MaxTime = cmp.Or(s.LastError, "it does not answer"), nil, 0
		}
		out = append(out, st)
	}
	return out
}
