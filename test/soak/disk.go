package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// disk is a small file system of its own, which can be full or hang.
type disk struct{ image, dir string }

// diskSize is enough for the logs and blocks of one receiver: it reserves 512 MB for
// each block that it writes.
const diskSize = 3 << 30

// mountDisk makes a file system in a sparse file and mounts it at dir.
func mountDisk(image, dir string) (*disk, error) {
	d := &disk{image: image, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the mount point of a disk: %w", err)
	}
	f, err := os.Create(image)
	if err != nil {
		return nil, fmt.Errorf("make the image of a disk: %w", err)
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close()); err != nil {
		return nil, fmt.Errorf("make the image of a disk: %w", err)
	}
	for _, c := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w: %s", c, err, out)
		}
	}
	return d, nil
}

// unmount removes the file system, when no process uses it.
func (d *disk) unmount() error {
	if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", d.dir, err)
	}
	return os.Remove(d.image)
}

// filler is the file that fills the disk.
func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// fill reserves all space of the disk.
func (d *disk) fill() error {
	f, err := os.Create(d.filler())
	if err != nil {
		return fmt.Errorf("fill a disk: %w", err)
	}
	defer f.Close()
	end := int64(0)
	for chunk := int64(256 << 20); chunk >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, end, chunk); {
		case err == nil:
			end += chunk
		case errors.Is(err, syscall.ENOSPC):
			chunk /= 2
		case !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("fill a disk: %w", err)
		}
	}
	return nil
}

// drain removes what fill wrote.
func (d *disk) drain() error { return os.Remove(d.filler()) }

// freeze makes writes hang for a time, once or again and again with pauses. A process of
// its own ends it, so that the disk does not stay frozen when this one is killed.
func (d *disk) freeze(lasts, pause time.Duration, times int) error {
	script := `trap '' INT TERM; i=0; while [ $i -lt "$4" ]; do fsfreeze -f "$1" && sleep "$2"; fsfreeze -u "$1"; sleep "$3"; i=$((i+1)); done`
	seconds := func(t time.Duration) string { return fmt.Sprintf("%.3f", t.Seconds()) }
	cmd := exec.Command("sh", "-c", script, "sh", d.dir, seconds(lasts), seconds(pause), fmt.Sprint(times))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("freeze the disk %s: %w: %s", d.dir, err, out)
	}
	return nil
}
