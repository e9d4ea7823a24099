package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// fault is one thing that goes wrong in a round. All of it follows from the seed.
type fault struct {
	kind   string
	target string // a process, or all
	other  string // the other side of a partition; the mode of a bucket fault
	delay  time.Duration
	lasts  time.Duration
	// share is the part of the requests that a bucket fault concerns.
	share float64
}

// The kinds of faults.
const (
	faultKill      = "kill"      // SIGKILL, and a start after lasts
	faultTwice     = "kill2"     // SIGKILL, a start, and SIGKILL while it starts
	faultTerm      = "restart"   // SIGTERM, which must end it in order, and a start
	faultStop      = "stop"      // SIGSTOP for lasts
	faultPartition = "partition" // target and other lose all packets between them; without other, all of target's
	faultOneWay    = "oneway"    // packets from target to other are lost
	faultFullDisk  = "fulldisk"  // no space
	faultFreeze    = "freeze"    // writes to the disk hang
	faultSlowDisk  = "slowdisk"  // writes to the disk hang again and again for short times
	faultBucket    = "bucket"    // target's requests to the bucket fail, as other says
	faultClock     = "clock"     // target sees the clock of the bucket wrong
	faultRing      = "ring"      // the hash ring has other members
	faultWipe      = "wipe"      // SIGKILL, its caches are lost, and a start
	faultLostDisk  = "lostdisk"  // SIGKILL of a receiver, all its data is lost, and a start
	faultAll       = "restartall"
)

// The modes of a bucket fault.
const (
	bucketError    = "error500"
	bucketSlowDown = "slowdown"
	bucketHang     = "hang"
	bucketCut      = "cut"   // the answer ends early
	bucketFlip     = "flip"  // a bit of the data is wrong
	bucketSlow     = "slow"  // bytes come slowly
	bucketLost     = "lost"  // the request is carried out, and the answer is an error
	bucketReset    = "reset" // the connection is closed
)

// machine says which faults are possible here.
type machine struct {
	partitions bool // network namespaces
	disks      bool // mounts
}

func (f fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", f.kind, f.target)
	if f.other != "" {
		fmt.Fprintf(&b, "/%s", f.other)
	}
	if f.share != 0 && f.share != 1 {
		fmt.Fprintf(&b, " p=%.1f", f.share)
	}
	fmt.Fprintf(&b, " +%.1fs %.1fs", f.delay.Seconds(), f.lasts.Seconds())
	return b.String()
}

// schedule makes the faults of one round after the other.
type schedule struct {
	rnd  *rand.Rand
	site []string // processes
	can  machine
	// calm are the rounds until a disk may be lost: as long as a sample has one copy less
	// than the quorum, no other copy may be lost.
	calm int
}

func newSchedule(seed uint64, site []string, can machine) *schedule {
	return &schedule{rnd: rand.New(rand.NewPCG(seed, 14)), site: site, can: can, calm: calmRounds / 2}
}

// kinds are the possible kinds; those that are there twice are twice as frequent.
func (s *schedule) kinds() []string {
	out := []string{
		faultKill, faultKill, faultKill, faultTwice, faultTerm, faultStop, faultStop,
		faultBucket, faultBucket, faultBucket, faultClock, faultRing, faultAll, faultWipe,
	}
	if s.calm <= 0 {
		out = append(out, faultLostDisk)
	}
	if s.can.partitions {
		out = append(out, faultPartition, faultPartition, faultOneWay)
	}
	if s.can.disks {
		out = append(out, faultFullDisk, faultFreeze, faultSlowDisk)
	}
	return out
}

// calmRounds are the rounds between two lost disks.
const calmRounds = 12

// next returns the faults of the next round: one, and sometimes a second one of another
// process at the same time.
func (s *schedule) next() []fault {
	s.calm--
	out := []fault{s.fault()}
	if out[0].kind == faultLostDisk {
		s.calm = calmRounds
		return out
	}
	if out[0].kind != faultAll && s.rnd.IntN(3) == 0 {
		second := s.fault()
		for conflict(out[0], second) || second.kind == faultLostDisk {
			second = s.fault()
		}
		second.delay = s.seconds(0, 4)
		out = append(out, second)
	}
	return out
}

// conflict says whether two faults cannot happen at the same time, because both start or
// stop the same process or use the same means.
func conflict(a, b fault) bool {
	return a.target == b.target || a.kind == faultAll || b.kind == faultAll || a.kind == b.kind && a.kind == faultRing
}

func (s *schedule) seconds(least, most float64) time.Duration {
	d := least + s.rnd.Float64()*(most-least)
	return time.Duration(d*10) * 100 * time.Millisecond
}

// fault draws a kind, and then what belongs to it.
func (s *schedule) fault() fault {
	kinds := s.kinds()
	f := fault{kind: kinds[s.rnd.IntN(len(kinds))], share: 1}
	switch f.kind {
	case faultAll:
		f.target, f.lasts = "all", s.seconds(0, 2)
	case faultRing:
		members := s.of("receive")
		s.rnd.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		members = members[:max(3, len(members)-s.rnd.IntN(2))]
		slices.Sort(members)
		f.target, f.other, f.lasts = "ring", strings.Join(members, ","), s.seconds(1, 6)
	case faultWipe:
		f.target, f.lasts = s.pick(append(s.of("store"), s.of("compact")...)), s.seconds(0, 3)
	case faultLostDisk:
		f.target, f.lasts = s.pick(s.of("receive")), s.seconds(0, 3)
	case faultKill, faultTerm:
		f.target, f.lasts = s.pick(s.site), s.seconds(0, 5)
	case faultTwice:
		f.target, f.lasts = s.pick(s.site), s.seconds(0, 1)
	case faultStop:
		f.target, f.lasts = s.pick(s.site), s.seconds(1, 12)
	case faultPartition, faultOneWay:
		f.target, f.lasts = s.pick(s.site), s.seconds(2, 10)
		if f.kind == faultOneWay || s.rnd.IntN(2) == 0 {
			for f.other = f.target; f.other == f.target; {
				f.other = s.pick(s.site)
			}
		}
	case faultFullDisk:
		f.target, f.lasts = s.pick(s.of("receive")), s.seconds(4, 12)
	case faultFreeze, faultSlowDisk:
		f.target, f.lasts = s.pick(s.of("receive")), s.seconds(2, 8)
	case faultBucket:
		f.target, f.lasts = s.pick(s.clients()), s.seconds(3, 15)
		modes := []string{bucketError, bucketSlowDown, bucketHang, bucketCut, bucketFlip, bucketSlow, bucketLost, bucketReset}
		f.other, f.share = s.pick(modes), []float64{0.2, 0.5, 1}[s.rnd.IntN(3)]
	case faultClock:
		f.target, f.lasts = s.pick(s.clients()), s.seconds(5, 20)
		f.other = s.pick([]string{"-10m", "+10m", "-1h", "+1h", "+24h"})
	}
	return f
}

func (s *schedule) pick(from []string) string { return from[s.rnd.IntN(len(from))] }

// of are the processes of a role.
func (s *schedule) of(role string) []string {
	var out []string
	for _, name := range s.site {
		if roleOf(name) == role {
			out = append(out, name)
		}
	}
	return out
}

// clients are the processes that use the bucket.
func (s *schedule) clients() []string {
	return slices.DeleteFunc(slices.Clone(s.site), func(name string) bool {
		return !slices.Contains([]string{"receive", "sidecar", "store", "compact"}, roleOf(name))
	})
}

// roleOf is the role of a process.
func roleOf(name string) string {
	role, _, _ := strings.Cut(name, "-")
	return role
}

// ms is a time of samples as text.
func ms(t int64) string { return time.UnixMilli(t).UTC().Format("2006-01-02T15:04:05.000Z") }
