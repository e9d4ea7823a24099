package members

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// Answer is how a receiver answered the last call.
type Answer int

// The answers.
const (
	// Silent: it did not answer.
	Silent Answer = iota
	// Starting: it answers, and takes no writes yet.
	Starting
	// Ready: it takes writes.
	Ready
	// Leaving: it leaves the ring for good.
	Leaving
)

// Found is a receiver that discovery finds.
type Found struct {
	// Address is host:port of its gRPC server, and its identity in the ring.
	Address string
	// Pod is the name of its pod, "" when discovery does not know it.
	Pod string
}

// Observation is what the caller knows at a time.
type Observation struct {
	Now time.Time
	// Found are the receivers that discovery finds, in any order.
	Found []Found
	// Complete is false when discovery has failed: then nothing follows from the
	// absence of a receiver.
	Complete bool
	// Pods is the number of pods that each StatefulSet is to have, by its name, as far
	// as it is known.
	Pods map[string]int
	// Answers has the answers by address; absent is Silent.
	Answers map[string]Answer
}

// Config of a Set.
type Config struct {
	// Replicas is the replication factor: a ring never shrinks below it.
	Replicas int
	// Timeout is how long a member that is neither found nor answers stays.
	Timeout time.Duration
	// Settle is how long the first ring waits for receivers that are found and do not
	// take writes yet.
	Settle time.Duration
}

// Departure is a member that left the ring.
type Departure struct {
	Address string
	Reason  reason.Reason
}

// Change is the effect of an observation on the ring.
type Change struct {
	Joined []string
	Left   []Departure
}

// Empty reports whether the ring is as it was.
func (c Change) Empty() bool { return len(c.Joined)+len(c.Left) == 0 }

// Saved is a Set as it survives a restart.
type Saved struct {
	Members []string `json:"members"`
	// Time is when it was saved, in Unix seconds.
	Time int64 `json:"time"`
}

// minGrace is how long after a restart a saved member stays at least.
const minGrace = time.Minute

// Set is the members of the ring. It is not safe for concurrent use.
type Set struct {
	cfg  Config
	seen map[string]time.Time // the last sign of each member
	pods map[string]string    // the pods of addresses
	// first is when discovery first found a receiver while there was no ring.
	first time.Time
}

// New makes a Set, with the members that an earlier one had.
func New(cfg Config, saved Saved, now time.Time) *Set {
	s := &Set{cfg: cfg, seen: map[string]time.Time{}, pods: map[string]string{}}
	grace := min(minGrace, cfg.Timeout)
	seen := time.Unix(saved.Time, 0)
	if least := now.Add(grace - cfg.Timeout); seen.Before(least) {
		seen = least
	}
	if seen.After(now) { // the clock was set back
		seen = now
	}
	for _, address := range saved.Members {
		s.seen[address] = seen
	}
	return s
}

// Ring returns the members in the order of their addresses, which is the same on
// every node; none before the first ring has formed.
func (s *Set) Ring() []string { return slices.Sorted(maps.Keys(s.seen)) }

// Saved returns the members for New.
func (s *Set) Saved(now time.Time) Saved { return Saved{Members: s.Ring(), Time: now.Unix()} }

// Observe changes the ring by an observation. Receivers join before members leave, so
// that a replaced member does not make the ring smaller for a time.
func (s *Set) Observe(o *Observation) (c Change) {
	found := map[string]bool{}
	for _, f := range o.Found {
		found[f.Address] = true
		if f.Pod != "" {
			s.pods[f.Address] = f.Pod
		}
	}
	if len(s.seen) == 0 {
		return s.form(o, found)
	}
	for _, address := range slices.Sorted(maps.Keys(found)) {
		if _, member := s.seen[address]; !member && o.Answers[address] == Ready && s.wanted(address, o) != no {
			s.seen[address] = o.Now
			c.Joined = append(c.Joined, address)
		}
	}
	var gone []Departure
	for address := range s.seen {
		if found[address] || !o.Complete || o.Answers[address] != Silent {
			s.seen[address] = o.Now
		}
		if why := s.departure(address, o); why != "" {
			gone = append(gone, Departure{address, why})
		}
	}
	// Every node takes the same ones out, those with the highest addresses, when not all
	// of them may leave.
	slices.SortFunc(gone, func(a, b Departure) int { return strings.Compare(b.Address, a.Address) })
	for _, d := range gone[:max(0, min(len(gone), len(s.seen)-s.cfg.Replicas))] {
		delete(s.seen, d.Address)
		c.Left = append(c.Left, d)
	}
	maps.DeleteFunc(s.pods, func(address, _ string) bool { return !found[address] && s.seen[address].IsZero() })
	return c
}

// form makes the first ring, of all receivers that take writes: when those are all
// that are found or expected, or when the others have had their time. So nodes that
// start at the same time begin with the same ring, and one that does not start cannot
// prevent it.
func (s *Set) form(o *Observation, found map[string]bool) (c Change) {
	var ready []string
	waiting := false
	for address := range found {
		switch {
		case s.wanted(address, o) == no || o.Answers[address] == Leaving:
		case o.Answers[address] == Ready:
			ready = append(ready, address)
		default:
			waiting = true
		}
	}
	if len(found) > 0 && s.first.IsZero() {
		s.first = o.Now
	}
	expected := 0
	for _, n := range o.Pods {
		expected += n
	}
	waiting = waiting || expected > len(ready)
	if len(ready) < max(s.cfg.Replicas, 1) || waiting && o.Now.Sub(s.first) < s.cfg.Settle {
		return c
	}
	slices.Sort(ready)
	for _, address := range ready {
		s.seen[address] = o.Now
	}
	return Change{Joined: ready}
}

// departure returns why a member is to leave, or "".
func (s *Set) departure(address string, o *Observation) reason.Reason {
	switch wanted := s.wanted(address, o); {
	case o.Answers[address] == Leaving:
		return reason.MemberLeaving
	case wanted == no:
		return reason.MemberScaledDown
	case wanted == unknown && o.Now.Sub(s.seen[address]) > s.cfg.Timeout:
		return reason.MemberLost
	}
	return ""
}

// Unwanted reports whether the StatefulSet of the receiver is known to have it no more.
func (s *Set) Unwanted(address string, o *Observation) bool { return s.wanted(address, o) == no }

// want is whether a receiver is to exist.
type want int

const (
	unknown want = iota
	yes
	no
)

// wanted compares the number of a pod with the size of its StatefulSet. The name of the
// pod is the one that discovery found, or the first label of the address, as the pods
// of a StatefulSet have it.
func (s *Set) wanted(address string, o *Observation) want {
	pod := s.pods[address]
	if pod == "" {
		pod, _, _ = strings.Cut(address, ".")
	}
	set, number := StatefulSet(pod)
	n, known := o.Pods[set]
	switch {
	case !known || number < 0:
		return unknown
	case number < n:
		return yes
	}
	return no
}

// StatefulSet returns the StatefulSet and the number of a pod, going by its name; -1 when
// the name has no number.
func StatefulSet(pod string) (name string, number int) {
	at := strings.LastIndexByte(pod, '-')
	if at < 1 {
		return "", -1
	}
	number, err := strconv.Atoi(pod[at+1:])
	if err != nil || number < 0 || strconv.Itoa(number) != pod[at+1:] {
		return "", -1
	}
	return pod[:at], number
}
