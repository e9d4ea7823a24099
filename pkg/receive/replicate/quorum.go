package replicate

import "github.com/hindsight-io/hindsight/pkg/receive/remotewrite"

// quorumOf returns how many of n replicas must store a series before its write is
// acknowledged: a majority, but one of two.
func quorumOf(n int) int {
	if n == 2 {
		return 1
	}
	return n/2 + 1
}

// kinds is the number of kinds of failure.
const kinds = int(remotewrite.Unavailable) + 1

// setState counts the answers of the replicas of one replica set. Its verdict holds
// for all series of the set.
type setState struct {
	// Replicas is how many replicas are written, Quorum how many must succeed.
	Replicas, Quorum int
	// OK counts the successes.
	OK int
	// Failed counts the failures by kind.
	Failed [kinds]int
}

// report counts one answer; a nil error is a success.
func (s *setState) report(err error) {
	if err == nil {
		s.OK++
		return
	}
	s.Failed[remotewrite.KindOf(err)]++
}

// verdict is the state of a set's write.
type verdict int

// The verdicts. Pending sets wait for more answers.
const (
	setPending verdict = iota
	setWon
	setLost
)

// verdict decides as soon as no later answer can change the verdict. A set is won
// at quorum. It is lost at once when so many replicas reject the data as Conflict or
// Invalid that no quorum is possible; with other failures only when all replicas
// have answered, as the cause depends on all of them.
func (s *setState) verdict() verdict {
	failures := 0
	for _, n := range s.Failed {
		failures += n
	}
	tooMany := s.Replicas - s.Quorum + 1
	switch {
	case s.OK >= s.Quorum:
		return setWon
	case s.Failed[remotewrite.Conflict] >= tooMany || s.Failed[remotewrite.Invalid] >= tooMany:
		return setLost
	case s.OK+failures == s.Replicas && failures >= tooMany:
		return setLost
	}
	return setPending
}

// cause returns the kind of failure of a lost set: the most frequent kind when a
// quorum of replicas has it, otherwise Unavailable when a quorum has failed in any
// way, otherwise Other.
func (s *setState) cause() remotewrite.Kind {
	best, most, sum := remotewrite.Other, 0, 0
	for kind, n := range s.Failed {
		sum += n
		if n > most && remotewrite.Kind(kind) != remotewrite.Other {
			best, most = remotewrite.Kind(kind), n
		}
	}
	switch {
	case most >= s.Quorum:
		return best
	case s.Failed[remotewrite.Other] >= s.Quorum:
		return remotewrite.Other
	case sum >= s.Quorum:
		return remotewrite.Unavailable
	}
	return remotewrite.Other
}

// precedence orders the causes of a request that lost several sets: kinds that a
// retry may resolve come first.
var precedence = [...]remotewrite.Kind{
	remotewrite.Unavailable, remotewrite.NotReady, remotewrite.LimitExceeded,
	remotewrite.Conflict, remotewrite.Invalid, remotewrite.TooLarge,
}

// requestCause returns the cause of a request from the causes of its lost sets.
func requestCause(lost []remotewrite.Kind) remotewrite.Kind {
	for _, want := range precedence {
		for _, k := range lost {
			if k == want {
				return k
			}
		}
	}
	return remotewrite.Other
}
