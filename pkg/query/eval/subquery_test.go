package eval

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Prometheus's engine looks at a wrong time for a selector with @ in a subquery that begins
// at the first step of the evaluation around it.
func TestSubquery_LeavesNestedModifiers(t *testing.T) {
	ng := oracleEngine(t)
	db := sorted{load(t, `
load 1m
  x 0 _x20 21 22
`)}
	for expr, want := range map[string]verdict{
		`sum_over_time((x @ 0)[1m:1m] offset -7s)`:                                 fallback,
		`sum_over_time((x @ 0)[1m:1m] offset -10m)`:                                fallback,
		`sum_over_time((x @ 0)[2m:1m] @ 1260)`:                                     fallback,
		`absent_over_time((x @ 0)[1m:1m] @ end())`:                                 fallback,
		`sum_over_time(sum_over_time(x[1m] @ 0)[1m:1m] offset -7s)`:                fallback,
		`avg_over_time(last_over_time((x @ 0)[1m:1m] offset 7s @ end())[1m:1m])`:   fallback,
		`avg_over_time(last_over_time(x[1m:1m] @ 0)[1m:1m] offset -7s)`:            fallback,
		`sum_over_time((x @ 0)[1m:1m])`:                                            native,
		`sum_over_time((x @ 0)[1m:1m] offset 7s)`:                                  fallback,
		`sum_over_time(last_over_time(x[1s:3s] @ 60)[40s:1m] offset 7s)`:           fallback,
		`avg_over_time(last_over_time((x @ 0)[1m:1m])[2m:1m])`:                     native,
		`sum_over_time(x[1m:1m] @ 1260)`:                                           native,
		`sum_over_time(x[1m:1m] offset -7s)`:                                       native,
		`avg_over_time(last_over_time((x @ 0)[1m:1m] offset 7s)[2m:1m] offset 1m)`: fallback,
	} {
		for _, start := range []int64{0, 1200, 1260, 1267} {
			e := evaluation{expr: expr, start: time.Unix(start, 0), end: time.Unix(start+120, 0), step: 30 * time.Second}
			v, err := compareEngines(ng, db, e)
			if v == nothing {
				v = native
			}
			require.Equal(t, want, v, "%s at %d: %v", expr, start, err)
		}
	}
}
