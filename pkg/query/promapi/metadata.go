package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// Metadata is the description of a metric.
type Metadata struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// MetadataFunc returns metadata by name of the metric, and warnings.
type MetadataFunc func(ctx context.Context, metric string, limit int) (map[string][]Metadata, []string, error)

func (a *API) metadata(w http.ResponseWriter, r *http.Request) {
	limit := -1
	if s := r.Form.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", errors.New("invalid parameter \"limit\": it must be a number"))
			return
		}
		limit = n
	}
	data, warnings, err := a.cfg.Metadata(r.Context(), r.Form.Get("metric"), limit)
	if err != nil {
		writeError(w, http.StatusUnprocessableEntity, "execution", fmt.Errorf("collect metadata: %w", err))
		return
	}
	if data == nil {
		data = map[string][]Metadata{}
	}
	writeData(w, data, warnings)
}
