package receive

import (
	"encoding/json"
	"net/http"
)

func (r *Receive) registerPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/receive/tenants", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(r.db.Stats())
	})
	mux.HandleFunc("POST /-/flush", func(w http.ResponseWriter, req *http.Request) {
		if err := r.db.Flush(req.Context(), req.URL.Query().Get("tenant")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}
