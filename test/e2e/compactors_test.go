package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// Ten compactors share the groups of a bucket on a real S3 server. Two are killed and two
// are stopped for longer than the lease time while they hold leases, and continued when
// others have done their work. Each group is merged, each result is whole, each sample is kept,
// and nothing is marked before its replacement is there.
func TestCompactors_ShareBucketWithKilledAndPausedOnes(t *testing.T) {
	const tenants, compactors = 14, 10
	s := newSite(t)
	require.NoError(t, s.Start("s3"))
	bkt := openBucket(t, s)
	var text strings.Builder
	for tenant := range tenants {
		for i := range 6 {
			fmt.Fprintf(&text, "block t%02d%d range=%dh..%dh labels={tenant=\"%02d\"}\n  up{job=\"x\"} %dh..%dh/1m:1+1\n", tenant, i, 2*i, 2*i+2, tenant, 2*i, 2*i+2)
		}
	}
	blocktest.Fill(t, bkt, text.String())
	dir := s.Path("s3", "hindsight")
	want := contentOf(t, dir, nil).withoutCopies()
	require.Len(t, want, tenants)
	watch := newWatch(t, dir, 48*time.Hour)
	config, err := os.ReadFile(s.Path("objstore.yml"))
	require.NoError(t, err)

	// No compactor writes a block before enough of them hold leases: on a fast host the first ones
	// would do all the work before the last one has started.
	begin := make(chan struct{})
	release := sync.OnceFunc(func() { close(begin) })
	t.Cleanup(release)
	var procs []*harness.Process
	for i := range compactors {
		name := fmt.Sprintf("compact-%d", i)
		env := []string{"S3_ACCESS_KEY=" + harness.S3AccessKey, "S3_SECRET_KEY=" + harness.S3SecretKey}
		proxy := newProxy(t, s.Addr("s3"), name, watch)
		proxy.hold = func(r *s3Request) {
			if r.write() && r.ofBlock() {
				<-begin
			}
		}
		file := s.Path(name + ".yml")
		require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(config), s.Addr("s3"), proxy.addr())), 0o644))
		p, err := harness.StartEnv(s.Dir, env, name, s.Bin.Hindsight, "compact", "--wait", "--wait-interval=1s",
			"--compact.cleanup-interval=1s", "--consistency-delay=0s", "--compact.lease-duration=2s", "--http-address=127.0.0.1:0",
			"--data-dir="+s.Path(name), "--objstore.config-file="+file)
		require.NoError(t, err)
		t.Cleanup(p.Kill)
		procs = append(procs, p)
	}
	identities := map[*harness.Process]string{}
	for i, p := range procs {
		file := s.Path(fmt.Sprintf("compact-%d", i), "compactor-id")
		require.Eventually(t, func() bool {
			b, err := os.ReadFile(file)
			identities[p] = strings.TrimSpace(string(b))
			return err == nil
		}, 30*time.Second, 5*time.Millisecond)
	}
	// The faults are of compactors that hold leases.
	owners := map[string]bool{}
	require.Eventually(t, func() bool {
		owners = leaseOwners(t, bkt)
		return len(owners) >= 4
	}, 30*time.Second, 10*time.Millisecond)
	slices.SortStableFunc(procs, func(a, b *harness.Process) int {
		return cmp.Compare(owned(owners[identities[a]]), owned(owners[identities[b]]))
	})
	procs[0].Kill()
	procs[1].Kill()
	for _, p := range procs[2:4] {
		p.Signal(syscall.SIGSTOP)
	}
	release()
	stopped := time.Now()
	require.Eventually(t, func() bool { return allMerged(t, bkt, tenants) }, time.Minute, 200*time.Millisecond)
	time.Sleep(time.Until(stopped.Add(4 * time.Second))) // two lease times
	for _, p := range procs[2:4] {
		p.Signal(syscall.SIGCONT)
	}
	// The two continue with jobs that others have done; a result of theirs is outdated.
	time.Sleep(2 * time.Second)
	require.Eventually(t, func() bool { return allMerged(t, bkt, tenants) }, 30*time.Second, 200*time.Millisecond)
	for _, p := range procs[2:] {
		require.True(t, p.Running(), "%s", p.Output())
		require.NoError(t, p.Stop(20*time.Second))
	}
	watch.check(t)
	requirePreserved(t, dir, want, anyOrphan)
	checkResults(t, bkt, tenants, identities[procs[0]], identities[procs[1]])
}

// leaseOwners are the compactors that hold leases.
func leaseOwners(t *testing.T, bkt bucket.Bucket) map[string]bool {
	out := map[string]bool{}
	for _, l := range leases(t, bkt) {
		if l.Owner != "" {
			out[l.Owner] = true
		}
	}
	return out
}

// owned orders owners of leases before others.
func owned(yes bool) int {
	if yes {
		return 0
	}
	return 1
}

type leaseObject struct {
	Name, Owner string
	Epoch       uint64
}

// leases reads the leases of the bucket.
func leases(t *testing.T, bkt bucket.Bucket) []leaseObject {
	var out []leaseObject
	require.NoError(t, bkt.List(context.Background(), "hindsight/leases", func(o bucket.Object) error {
		b, err := bucket.ReadAll(context.Background(), bkt, o.Name, 1<<20)
		if err != nil || strings.Contains(o.Name, "probe-") {
			return nil //nolint:nilerr // the object may be gone
		}
		var l leaseObject
		if err := json.Unmarshal(b, &l); err != nil {
			return err
		}
		out = append(out, l)
		return nil
	}))
	return out
}

// allMerged says whether each tenant has one merged block, the two newest ones, and nothing
// else that is not marked for deletion.
func allMerged(t *testing.T, bkt bucket.Bucket, tenants int) bool {
	view, err := blocklist.NewPoller(bkt, blocklist.Config{}).Poll(context.Background())
	require.NoError(t, err)
	merged, live := 0, 0
	for id, m := range view.Metas {
		if view.Deletion[id] == nil {
			live++
			if m.Compaction.Level == 2 {
				merged++
			}
		}
	}
	return merged == tenants && live == 3*tenants
}

// checkResults downloads and verifies the merged blocks, and reads the epochs in them. A killed
// compactor that had done all but release its lease keeps it, because no other needs it.
func checkResults(t *testing.T, bkt bucket.Bucket, tenants int, killed ...string) {
	view, err := blocklist.NewPoller(bkt, blocklist.Config{}).Poll(context.Background())
	require.NoError(t, err)
	results := 0
	for id, m := range view.Metas {
		if m.Compaction.Level != 2 {
			continue
		}
		dir := filepath.Join(t.TempDir(), id.String())
		_, err := block.Download(context.Background(), bkt, id, dir, block.DownloadConfig{})
		require.NoError(t, err)
		report, err := block.Verify(context.Background(), dir)
		require.NoError(t, err)
		require.Equal(t, m.Stats.NumSamples, report.Meta.Stats.NumSamples)
		var ext struct {
			Lease struct{ Epoch uint64 } `json:"hindsight_lease"`
		}
		require.NoError(t, json.Unmarshal(m.Thanos.Extensions, &ext))
		require.Positive(t, ext.Lease.Epoch)
		results++
	}
	require.GreaterOrEqual(t, results, tenants)
	t.Logf("%d results for %d groups", results, tenants)
	for _, l := range leases(t, bkt) {
		require.Contains(t, append(killed, ""), l.Owner, "the lease of %s is released", l.Name)
	}
}
