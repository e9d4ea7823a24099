package limit_test

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

func TestCounter(t *testing.T) {
	type series struct {
		name   string
		chunks int
	}
	for _, c := range []struct {
		name   string
		max    limit.Answer
		answer []series
		// allowed is how many of the series pass.
		allowed int
		err     string
	}{
		{"zero is no limit", limit.Answer{}, []series{{"a", math.MaxInt32}, {"b", math.MaxInt32}}, 2, ""},
		{"as many series as allowed", limit.Answer{Series: 2}, []series{{"a", 1}, {"b", 1}}, 2, ""},
		{
			"one series too many", limit.Answer{Series: 2}, []series{{"a", 1}, {"b", 1}, {"c", 1}}, 2,
			"limit exceeded: request needs at least 3 series, --store.limits.request-series allows 2; narrow the request or raise the limit",
		},
		{"equal label sets that follow each other are one series", limit.Answer{Series: 2}, []series{{"a", 1}, {"a", 1}, {"b", 1}, {"b", 0}}, 4, ""},
		{
			"equal label sets apart count again", limit.Answer{Series: 2}, []series{{"a", 1}, {"b", 1}, {"a", 1}}, 2,
			"limit exceeded: request needs at least 3 series, --store.limits.request-series allows 2; narrow the request or raise the limit",
		},
		{"the empty label set counts", limit.Answer{Series: 1}, []series{{"", 1}, {"a", 1}}, 1, "limit exceeded: request needs at least 2 series, --store.limits.request-series allows 1; narrow the request or raise the limit"},
		{"as many samples as allowed", limit.Answer{Samples: 480}, []series{{"a", 1}, {"a", 2}, {"b", 1}}, 3, ""},
		{"one sample above is less than a chunk", limit.Answer{Samples: 481}, []series{{"a", 4}, {"b", 1}}, 1, "limit exceeded: request needs at least 600 samples (120 for each chunk), --store.limits.request-samples allows 481; narrow the request or raise the limit"},
		{
			"one sample below", limit.Answer{Samples: 479}, []series{{"a", 1}, {"a", 2}, {"b", 1}}, 2,
			"limit exceeded: request needs at least 480 samples (120 for each chunk), --store.limits.request-samples allows 479; narrow the request or raise the limit",
		},
		{
			"below one chunk", limit.Answer{Samples: 119}, []series{{"a", 1}}, 0,
			"limit exceeded: request needs at least 120 samples (120 for each chunk), --store.limits.request-samples allows 119; narrow the request or raise the limit",
		},
		{"below one chunk, series without chunks", limit.Answer{Samples: 1}, []series{{"a", 0}, {"b", 0}}, 2, ""},
		{"one chunk", limit.Answer{Samples: 120}, []series{{"a", 1}}, 1, ""},
		{"the largest limits", limit.Answer{Series: math.MaxUint64, Samples: math.MaxUint64}, []series{{"a", 1}, {"b", 1}}, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			counter := limit.Counter{Max: c.max}
			var err error
			allowed := 0
			for _, s := range c.answer {
				ls := labels.EmptyLabels()
				if s.name != "" {
					ls = labels.FromStrings("name", s.name)
				}
				if err = counter.Add(ls, s.chunks); err != nil {
					break
				}
				allowed++
			}
			require.Equal(t, c.allowed, allowed)
			if c.err == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.err)
			require.ErrorIs(t, err, limit.ErrExceeded)
		})
	}
}

func TestCounter_Counts(t *testing.T) {
	var c limit.Counter
	a, b := labels.FromStrings("name", "a"), labels.FromStrings("name", "b")
	require.NoError(t, c.Add(a, 2))
	require.NoError(t, c.Add(a, 3))
	require.NoError(t, c.Add(b, 0))
	require.Equal(t, int64(2), c.Series())
	require.Equal(t, int64(5), c.Chunks())
}
