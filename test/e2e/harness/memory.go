package harness

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Peak returns the peak of the memory of the process in bytes.
func (p *Process) Peak() (int64, error) { return p.memory("VmHWM") }

// Resident returns the current memory of the process in bytes.
func (p *Process) Resident() (int64, error) { return p.memory("VmRSS") }

func (p *Process) memory(key string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return 0, fmt.Errorf("read the memory of %s: %w", p.Name, err)
	}
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, key+":")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s of %s: %w", key, p.Name, err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("%s of %s is not known, the process has ended", key, p.Name)
}
