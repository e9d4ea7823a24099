package block

import "encoding/json"

// RewriteCount is the number of rewrites in the lineage of the block, the entries of
// thanos.rewrites. Of two blocks with equal sources, the one with more rewrites was
// made of the other.
func (m *Meta) RewriteCount() int {
	if len(m.Thanos.Rewrites) == 0 {
		return 0
	}
	var entries []json.RawMessage
	if json.Unmarshal(m.Thanos.Rewrites, &entries) != nil {
		return 0
	}
	return len(entries)
}
