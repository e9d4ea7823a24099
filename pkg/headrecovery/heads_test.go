package headrecovery

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

func TestLogBytes_CountsEachRangeOnce(t *testing.T) {
	piece := func(k headlog.Kind, segment int, from, end int64) headlog.Piece {
		return headlog.Piece{Size: -1, Name: headlog.Name{Kind: k, Segment: segment, From: from, End: end}}
	}
	require.Zero(t, logBytes(nil))
	require.EqualValues(t, 100+50+30+7, logBytes([]headlog.Piece{
		piece(headlog.KindCheckpoint, 3, 0, 1000), piece(headlog.KindCarried, 3, 0, 1000),
		piece(headlog.KindWAL, 4, 0, 60), piece(headlog.KindSeries, 4, 0, 100), piece(headlog.KindWAL, 4, 60, 100),
		piece(headlog.KindWAL, 4, 150, 200), piece(headlog.KindWAL, 5, 0, 30), piece(headlog.KindWBL, 4, 0, 7),
	}))
}
