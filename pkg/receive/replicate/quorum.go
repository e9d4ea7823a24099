package replicate

import "github.com/hindsight-io/hindsight/pkg/receive/remotewrite"

// Quorum is how many of n replicas must have stored a series before the write
// is acknowledged. With two replicas one is enough.
func Quorum(n int) int {
	if n == 2 {
		return 1
	}
	return n/2 + 1
}

// kinds is the number of kinds of failure.
const kinds = int(remotewrite.Unavailable) + 1

// SetState counts the answers of the replicas of one replica set. All series
// of the set share its fate.
type SetState struct {
	// Replicas is how many replicas are written, Quorum how many must succeed.
	Replicas, Quorum int
	OK               int
	Failed           [kinds]int
}

// Report counts one answer; a nil error is a success.
func (s *SetState) Report(err error) {
	if err == nil {
		s.OK++
		return
	}
	s.Failed[remotewrite.KindOf(err)]++
}

// Verdict is the state of a set's write.
type Verdict int

// The verdicts. Pending sets wait for more answers.
const (
	Pending Verdict = iota
	Won
	Lost
)

// Verdict decides as early as the answer cannot become another one: a set is
// won at quorum. It is lost at once when so many replicas refuse the data for
// good that quorum cannot be reached; of other failures the cause is known
// only when all replicas have answered.
func (s *SetState) Verdict() Verdict {
	failures := 0
	for _, n := range s.Failed {
		failures += n
	}
	tooMany := s.Replicas - s.Quorum + 1
	switch {
	case s.OK >= s.Quorum:
		return Won
	case s.Failed[remotewrite.Conflict] >= tooMany || s.Failed[remotewrite.Invalid] >= tooMany:
		return Lost
	case s.OK+failures == s.Replicas && failures >= tooMany:
		return Lost
	}
	return Pending
}

// Cause of a lost set: the most frequent kind when a quorum of replicas agrees
// on it, otherwise Unavailable when there are as many errors of any kind.
func (s *SetState) Cause() remotewrite.Kind {
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

// precedence orders causes of a request that lost several sets: what may
// succeed when sent again goes first.
var precedence = [...]remotewrite.Kind{
	remotewrite.Unavailable, remotewrite.NotReady, remotewrite.LimitExceeded,
	remotewrite.Conflict, remotewrite.Invalid, remotewrite.TooLarge,
}

// RequestCause is the cause of a request from the causes of its lost sets.
func RequestCause(lost []remotewrite.Kind) remotewrite.Kind {
	for _, want := range precedence {
		for _, k := range lost {
			if k == want {
				return k
			}
		}
	}
	return remotewrite.Other
}
