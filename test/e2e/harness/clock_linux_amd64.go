package harness

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// mappedWithin is how long the kernel may take to map the clock into a new process.
const mappedWithin = 10 * time.Second

// SetClock makes the wall clock of the process differ from that of the machine from now on;
// its monotonic clock stays. It works for static Go programs, which read the clock by the
// function of the kernel that is mapped into each process (the vDSO): SetClock overwrites
// that function in the memory of the process with one that makes the system call and adds
// skew.
func (p *Process) SetClock(skew time.Duration) error {
	p.wall = skew
	return p.setClocks()
}

// Skip makes a time pass at once on the monotonic clock of the process, so that its timers
// and intervals end earlier. Its wall clock stays. It works as SetClock does.
func (p *Process) Skip(d time.Duration) error {
	p.monotonic += d
	return p.setClocks()
}

// setClocks writes the function that adds both differences over the one of the kernel.
func (p *Process) setClocks() (err error) {
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.Pid()), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("set the clock of %s: %w", p.Name, err)
	}
	defer func() { err = errors.Join(err, mem.Close()) }()
	// Start returns when the kernel has closed the files of the parent, which is before it maps
	// the function.
	at, size, err := clockFunction(p.Pid(), mem)
	for end := time.Now().Add(mappedWithin); err != nil && p.Running() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		at, size, err = clockFunction(p.Pid(), mem)
	}
	if err != nil {
		return fmt.Errorf("set the clock of %s: %w", p.Name, err)
	}
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: the clock, 0 is CLOCK_REALTIME
		0x75, 14, // jne to cmp
		0x48, 0xb9, // mov rcx, seconds
	}
	code = binary.LittleEndian.AppendUint64(code, uint64(int64(p.wall/time.Second)))
	code = append(code, 0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3,             // ret
		0x83, 0xff, 0x01, // cmp edi, CLOCK_MONOTONIC
		0x75, 13, // jne to ret
		0x48, 0xb9) // mov rcx, seconds
	code = binary.LittleEndian.AppendUint64(code, uint64(int64(p.monotonic/time.Second)))
	code = append(code, 0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3) // ret
	if size < uint64(len(code)) {
		return fmt.Errorf("set the clock of %s: the function of the kernel has only %d bytes", p.Name, size)
	}
	if _, err := mem.WriteAt(code, at); err != nil {
		return fmt.Errorf("set the clock of %s: %w", p.Name, err)
	}
	return nil
}

// Break gives a function of the process a defect: from now on it reads from address 0, which
// ends each call in a panic. name is that of the linker, such as
// "example.org/pkg.(*Type).Method".
func (p *Process) Break(name string) (err error) {
	exe, err := elf.Open(fmt.Sprintf("/proc/%d/exe", p.Pid()))
	if err != nil {
		return fmt.Errorf("break a function of %s: %w", p.Name, err)
	}
	defer func() { err = errors.Join(err, exe.Close()) }()
	symbols, err := exe.Symbols()
	if err != nil {
		return fmt.Errorf("break a function of %s: %w", p.Name, err)
	}
	if exe.Type != elf.ET_EXEC {
		return fmt.Errorf("break a function of %s: the addresses of the program are not fixed", p.Name)
	}
	for _, s := range symbols {
		if s.Name != name {
			continue
		}
		mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.Pid()), os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("break %s of %s: %w", name, p.Name, err)
		}
		code := []byte{
			0x31, 0xc0, // xor eax, eax
			0x8b, 0x00, // mov eax, [rax]
		}
		_, err = mem.WriteAt(code, int64(s.Value))
		return errors.Join(err, mem.Close())
	}
	return fmt.Errorf("%s has no function %s", p.Name, name)
}

// clockFunction returns the address and size of the function in the memory of a process.
func clockFunction(pid int, mem *os.File) (at int64, size uint64, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		var from, to int64
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			return 0, 0, fmt.Errorf("read the memory map: %w", err)
		}
		image := make([]byte, to-from)
		if _, err := mem.ReadAt(image, from); err != nil {
			return 0, 0, fmt.Errorf("read the vDSO: %w", err)
		}
		f, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			return 0, 0, fmt.Errorf("read the vDSO: %w", err)
		}
		symbols, err := f.DynamicSymbols()
		if err != nil {
			return 0, 0, fmt.Errorf("read the symbols of the vDSO: %w", err)
		}
		for _, s := range symbols {
			if s.Name == "__vdso_clock_gettime" {
				return from + int64(s.Value), s.Size, nil
			}
		}
	}
	return 0, 0, errors.New("it has no vDSO with a clock")
}
