package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// inject carries out a fault and ends it. It returns when the fault has ended; the
// processes may still have to become ready.
func (r *run) inject(ctx context.Context, f fault) error {
	if !pause(ctx, f.delay) {
		return nil
	}
	r.note("begin %s", f)
	defer r.note("end   %s", f)
	s := r.site
	switch f.kind {
	case faultKill:
		s.ending(f.target).Kill()
		pause(ctx, f.lasts)
		return s.start(f.target)
	case faultWipe, faultLostDisk:
		return r.lose(ctx, f)
	case faultTwice:
		s.ending(f.target).Kill()
		if err := s.start(f.target); err != nil {
			return err
		}
		pause(ctx, f.lasts)
		s.ending(f.target).Kill()
		return s.start(f.target)
	case faultTerm:
		if err := s.ending(f.target).Stop(stopTime); err != nil {
			return fmt.Errorf("I9: a stop in order: %w", err)
		}
		pause(ctx, f.lasts)
		return s.start(f.target)
	case faultStop:
		p := s.proc(f.target)
		p.Signal(syscall.SIGSTOP)
		pause(ctx, f.lasts)
		p.Signal(syscall.SIGCONT)
		return nil
	case faultPartition, faultOneWay:
		return r.partition(ctx, f)
	case faultFullDisk, faultFreeze, faultSlowDisk:
		return r.disk(ctx, f)
	case faultBucket:
		p := s.proxy[f.target]
		p.set(&bucketFault{mode: f.other, share: f.share, ended: make(chan struct{})})
		pause(ctx, f.lasts)
		p.set(nil)
		return nil
	case faultClock:
		skew, err := time.ParseDuration(f.other)
		if err != nil {
			return fmt.Errorf("a fault of the clock: %w", err)
		}
		s.proxy[f.target].setSkew(skew)
		pause(ctx, f.lasts)
		s.proxy[f.target].setSkew(0)
		return nil
	case faultRing:
		if err := s.setRing(strings.Split(f.other, ",")); err != nil {
			return err
		}
		pause(ctx, f.lasts)
		return nil
	case faultAll:
		return r.restartAll(ctx, f)
	}
	return fmt.Errorf("there is no fault of the kind %q", f.kind)
}

func (r *run) partition(ctx context.Context, f fault) error {
	d, ok := r.site.net.(divisible)
	if !ok {
		return fmt.Errorf("%s needs network namespaces", f.kind)
	}
	if err := d.lose(f.target, f.other); err != nil {
		return err
	}
	both := f.kind == faultPartition && f.other != ""
	if both {
		if err := d.lose(f.other, f.target); err != nil {
			return err
		}
	}
	pause(ctx, f.lasts)
	if both {
		if err := d.find(f.other, f.target); err != nil {
			return err
		}
	}
	return d.find(f.target, f.other)
}

func (r *run) disk(ctx context.Context, f fault) error {
	d := r.site.disks[f.target]
	switch f.kind {
	case faultFreeze:
		return d.freeze(f.lasts, 0, 1)
	case faultSlowDisk:
		const on, off = 300 * time.Millisecond, 200 * time.Millisecond
		return d.freeze(on, off, int(f.lasts/(on+off)))
	}
	if err := d.fill(); err != nil {
		return err
	}
	p := r.site.ending(f.target)
	pause(ctx, f.lasts)
	if err := d.drain(); err != nil {
		return err
	}
	if p.Running() {
		r.site.spare(f.target)
		return nil
	}
	// The TSDB may end the process for want of space; its supervisor starts it again.
	r.count("ended by a full disk", 1)
	return r.site.start(f.target)
}

// lose kills a process and removes its data. The disk of a receiver is lost only while
// all that was acknowledged has copies beyond it.
func (r *run) lose(ctx context.Context, f fault) error {
	if f.kind == faultLostDisk {
		if !r.tolerated(ctx) {
			r.note("skip  %s: samples have too few copies", f)
			r.count("lost disks skipped", 1)
			return nil
		}
		r.lostAt = r.ringHead()
		r.present.Store(time.Now().UnixMilli())
	}
	r.site.ending(f.target).Kill()
	entries, err := os.ReadDir(r.site.path(f.target))
	if err != nil {
		return fmt.Errorf("lose the data of %s: %w", f.target, err)
	}
	for _, e := range entries {
		if e.Name() == "lost+found" {
			continue
		}
		if err := os.RemoveAll(r.site.path(f.target, e.Name())); err != nil {
			return fmt.Errorf("lose the data of %s: %w", f.target, err)
		}
	}
	pause(ctx, f.lasts)
	return r.site.start(f.target)
}

// ringHead is the time of the newest samples that were written to the ring.
func (r *run) ringHead() int64 {
	newest := int64(0)
	for _, l := range r.ledgers {
		if l.replica == "" && !l.present {
			newest = max(newest, l.time(l.head()))
		}
	}
	return newest
}

// tolerated waits until the loss of a disk is within the tolerance of the ring: no hint
// waits for another node, and the samples that were written before the last lost disk are
// in the bucket. It gives up after a while, because a node that left the ring keeps its
// head for itself.
func (r *run) tolerated(ctx context.Context) bool {
	for range 60 {
		hints := 0.0
		for _, name := range receiverNames() {
			page, err := r.metrics(ctx, name)
			if err != nil {
				hints++
				continue
			}
			hints += sum(page, "hindsight_receive_hints_bytes")
		}
		if hints == 0 && r.blocks.holds(r.ledgers, r.lostAt) {
			return true
		}
		if !pause(ctx, time.Second) {
			break
		}
	}
	return false
}

// restartAll kills every process at once, as when the power fails, and starts all.
func (r *run) restartAll(ctx context.Context, f fault) error {
	for _, name := range processes() {
		r.site.ending(name).Signal(syscall.SIGKILL)
	}
	for _, name := range processes() {
		r.site.proc(name).Kill()
	}
	pause(ctx, f.lasts)
	for _, name := range processes() {
		if err := r.site.start(name); err != nil {
			return err
		}
	}
	return nil
}

// pause waits, and reports whether ctx still lasts.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
