package flags

import (
	"fmt"

	"github.com/alecthomas/units"
)

// Bytes is a size such as "250MB" or "1GiB"; all units count by 1024.
type Bytes units.Base2Bytes

// Set parses s.
func (b *Bytes) Set(s string) error {
	if s == "0" {
		*b = 0
		return nil
	}
	v, err := units.ParseBase2Bytes(s)
	if err != nil {
		return fmt.Errorf("%q is not a size (write a number with a unit, such as 250MB or 2GiB): %w", s, err)
	}
	*b = Bytes(v)
	return nil
}

func (b *Bytes) String() string { return units.Base2Bytes(*b).String() }

// Int64 returns the number of bytes.
func (b Bytes) Int64() int64 { return int64(b) }
