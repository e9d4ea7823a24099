package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
)

// anyOrphan accepts what a failed or killed upload leaves: it is deleted after two days.
func anyOrphan(ulid.ULID) bool { return true }

// disturbance chooses faults for the requests of all clients of a bucket.
type disturbance struct {
	kinds []bucketFault

	mu   sync.Mutex
	r    *rand.Rand
	left map[bucketFault]int
	// met are the blocks of which the content or existence of an object was disturbed: such a
	// fault is met once, because a second download that has one too is damage of the block.
	met  map[string]bool
	made map[bucketFault]int
}

func newDisturbance(seed uint64, kinds ...bucketFault) *disturbance {
	d := &disturbance{kinds: kinds, r: rand.New(rand.NewPCG(seed, 13)), left: map[bucketFault]int{}, met: map[string]bool{}, made: map[bucketFault]int{}}
	for _, k := range kinds {
		d.left[k] = 12
		if k == noAnswer {
			d.left[k] = 2 // the client waits for each
		}
	}
	return d
}

// choose disturbs every third request, with one of the faults that suit it.
func (d *disturbance) choose(r *s3Request) bucketFault {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r.IntN(3) > 0 {
		return noFault
	}
	for _, i := range d.r.Perm(len(d.kinds)) {
		k := d.kinds[i]
		if !k.suits(r) || d.left[k] == 0 {
			continue
		}
		if k.ofContent() {
			name, _, _ := strings.Cut(r.key, "/")
			if d.met[name] {
				continue
			}
			d.met[name] = true
		}
		d.left[k]--
		d.made[k]++
		return k
	}
	return noFault
}

// ofContent says whether a fault looks like damage of the object.
func (f bucketFault) ofContent() bool {
	return f == notThere || f == wrongByte || f == shortBody
}

// disturb runs two compactors on a new bucket with faults, until the work has ended as without
// them. Each kind of fault is met.
func (s *faultSite) disturb(t *testing.T, name string, seed uint64, kinds ...bucketFault) {
	f := s.bucket(t, name)
	d := newDisturbance(seed, kinds...)
	for _, c := range []string{"1", "2"} {
		f.proxy(c).set(d.choose)
		f.start(c)
	}
	f.finish(anyOrphan, f.restartRefused)
	for _, k := range kinds {
		require.Positive(t, d.made[k], "no request met: %s", k)
	}
	t.Logf("seed %d: faults %v; %v", seed, d.made, f.watch.counts)
}

// restartRefused starts the compactors again that the bucket refused when they began: they end
// with an error, as with a wrong key.
func (f *faultBucket) restartRefused() {
	f.t.Helper()
	for name, p := range f.procs {
		if p.Running() {
			continue
		}
		require.Contains(f.t, p.Tail(1), "refuses the credentials")
		f.start(name)
	}
}

// requestsFail are the faults of a server or network that does not carry out requests, or whose
// listings are old.
func requestsFail() []bucketFault {
	return []bucketFault{internalError, slowDown, refused, resetBefore, noAnswer, hideRecent, repeatListed}
}

// answersFail are those that lose answers and bytes.
func answersFail() []bucketFault {
	return []bucketFault{notThere, lostUpload, lostAnswer, resetAfter, slowBytes, earlyEOF, shortBody, wrongByte}
}

// Two compactors meet every kind of error of the bucket (F8, F9, F11 of the fault plan).
func TestCompactFaults_BucketErrors(t *testing.T) {
	t.Parallel()
	s := newFaultSite(t)
	s.disturb(t, "requests", 1, requestsFail()...)
	s.disturb(t, "answers", 1, answersFail()...)
}

// The same for one kind after the other, and mixtures, with other seeds.
func TestCompactFaults_SoakBucketErrors(t *testing.T) {
	soakCompactors(t, func(t *testing.T, s *faultSite, seed uint64) {
		kinds := append(requestsFail(), answersFail()...)
		one := kinds[seed%uint64(len(kinds))]
		s.disturb(t, fmt.Sprint("one-", seed), seed, one)
		s.disturb(t, fmt.Sprint("all-", seed), seed, kinds...)
	})
}
