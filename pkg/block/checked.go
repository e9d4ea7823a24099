package block

import (
	"encoding/json"

	"github.com/oklog/ulid/v2"
)

// checkedKey is the key of the mark of Checked in the extensions of a meta.json.
const checkedKey = "hindsight_checked"

// Checked says that all chunks of the block were decoded when it was made, and are sound. The
// mark has the id of the block: programs which do not know it copy it into blocks that they
// make of this one and of others.
func (m *Meta) Checked() bool {
	var id ulid.ULID
	return json.Unmarshal(m.extensions()[checkedKey], &id) == nil && id == m.ULID
}

// SetChecked writes the mark of Checked, or removes it.
func (m *Meta) SetChecked(checked bool) {
	if !checked {
		m.setExtension(checkedKey, nil)
		return
	}
	m.setExtension(checkedKey, []byte(`"`+m.ULID.String()+`"`))
}
