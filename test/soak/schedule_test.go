package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// rounds are the first 300 of a seed.
func rounds(seed uint64, can machine) []string {
	s := newSchedule(seed, processes(), can)
	var out []string
	for range 300 {
		out = append(out, fmt.Sprint(s.next()))
	}
	return out
}

func TestSchedule_SameSeedGivesSameFaults(t *testing.T) {
	everything := machine{partitions: true, disks: true}
	require.Equal(t, rounds(7, everything), rounds(7, everything))
	require.NotEqual(t, rounds(7, everything), rounds(8, everything))
}

func TestSchedule_HasEveryKindThatTheMachineAllows(t *testing.T) {
	for _, can := range []machine{{}, {partitions: true}, {disks: true}, {partitions: true, disks: true}} {
		s := newSchedule(3, processes(), can)
		seen := map[string]bool{}
		for range 2000 {
			faults := s.next()
			for _, f := range faults {
				seen[f.kind] = true
				require.NotEqual(t, f.target, f.other)
				if f.kind == faultBucket || f.kind == faultClock {
					require.True(t, usesBucket(f.target), f)
				}
			}
			if faults[0].kind == faultLostDisk {
				require.Len(t, faults, 1)
			}
			if len(faults) == 2 {
				require.NotEqual(t, faultLostDisk, faults[1].kind)
				require.NotEqual(t, faults[0].target, faults[1].target)
			}
		}
		for _, k := range []string{faultKill, faultTwice, faultTerm, faultStop, faultBucket, faultClock, faultRing, faultAll, faultWipe, faultLostDisk} {
			require.True(t, seen[k], k)
		}
		require.Equal(t, can.partitions, seen[faultPartition] && seen[faultOneWay])
		require.Equal(t, can.disks, seen[faultFullDisk] && seen[faultFreeze] && seen[faultSlowDisk])
	}
}
