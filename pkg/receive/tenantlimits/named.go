package tenantlimits

// Named is a limit with its key in the limits file.
type Named struct {
	Key   string  `json:"key"`
	Value float64 `json:"value"`
}

// Named returns the limits that are set, in the order of the limits file. The retention,
// which bounds no write, is left out.
func (t Tenant) Named() []Named {
	out := []Named{}
	for _, n := range []Named{
		{"request.size_bytes_limit", float64(t.SizeBytes)},
		{"request.series_limit", float64(t.Series)},
		{"request.samples_limit", float64(t.Samples)},
		{KeyHeadSeries, float64(t.ActiveSeries)},
		{"samples_per_second_limit", t.SamplesPerSecond},
		{"samples_burst_limit", t.Burst},
		{"label_names_limit", float64(t.LabelNames)},
		{"label_name_length_limit", float64(t.LabelNameLength)},
		{"label_value_length_limit", float64(t.LabelValueLength)},
	} {
		if n.Value > 0 {
			out = append(out, n)
		}
	}
	return out
}
