package query

import (
	"errors"
	"testing"

	"github.com/prometheus/prometheus/promql/parser/posrange"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// An annotation of an evaluation below is one with an equal one from here: the last one
// gives the place, as in one evaluation.
func TestLeafAnnotation_JoinsThoseFromHere(t *testing.T) {
	const query = "histogram_quantile(0.9, a) unless histogram_quantile(0.9, b)"
	here := func(from posrange.Pos) error {
		return annotations.NewBadBucketLabelWarning("", "", posrange.PositionRange{Start: from, End: from + 1})
	}
	var first annotations.Annotations
	first.Add(here(24))
	below, infos := first.AsStrings(query, 0, 0)
	require.Empty(t, infos)
	require.Len(t, below, 1)
	require.Regexp(t, `\(1:25\)$`, below[0])

	for _, c := range []struct {
		all  []error
		want string
	}{
		{[]error{newLeafAnnotation(below[0])}, "(1:25)"},
		{[]error{newLeafAnnotation(below[0]), here(58)}, "(1:59)"},
		{[]error{here(58), newLeafAnnotation(below[0])}, "(1:25)"},
		{[]error{newLeafAnnotation(below[0]), newLeafAnnotation(below[0])}, "(1:25)"},
	} {
		var as annotations.Annotations
		for _, a := range c.all {
			as.Add(a)
		}
		warnings, infos := as.AsStrings(query, 0, 0)
		require.Empty(t, infos)
		require.Len(t, warnings, 1)
		require.Contains(t, warnings[0], c.want)
	}
}

func TestNewLeafAnnotation(t *testing.T) {
	info := newLeafAnnotation("PromQL info: metric might not be a counter: \"x (1:2)\" (10:3)")
	require.True(t, errors.Is(info, annotations.PromQLInfo))
	require.Equal(t, "PromQL info: metric might not be a counter: \"x (1:2)\"", info.Error())
	var as annotations.Annotations
	warnings, infos := as.Add(info).AsStrings("x", 0, 0)
	require.Empty(t, warnings)
	require.Equal(t, []string{"PromQL info: metric might not be a counter: \"x (1:2)\" (10:3)"}, infos)

	require.Equal(t, "PromQL warning: 3 more warning annotations omitted", newLeafAnnotation("PromQL warning: 3 more warning annotations omitted").Error())
	for _, text := range []string{"", "store a:1 is missing", "PromQL warning", "promql info: x (1:2)"} {
		require.Nil(t, newLeafAnnotation(text), text)
	}
}
