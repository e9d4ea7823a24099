package block

import "encoding/json"

// extensions are the extensions by key, nil if there are none or they are not an object.
func (m *Meta) extensions() map[string]json.RawMessage {
	var ext map[string]json.RawMessage
	if len(m.Thanos.Extensions) == 0 || json.Unmarshal(m.Thanos.Extensions, &ext) != nil {
		return nil
	}
	return ext
}

// setExtension writes one key of the extensions and keeps the others; nil removes it.
func (m *Meta) setExtension(key string, value json.RawMessage) {
	ext := m.extensions()
	if ext == nil {
		ext = map[string]json.RawMessage{} // none, null, or not an object
	}
	delete(ext, key)
	if value != nil {
		ext[key] = value
	}
	m.Thanos.Extensions = nil
	if len(ext) == 0 {
		return
	}
	if b, err := json.Marshal(ext); err == nil { // the values were decoded or made here
		m.Thanos.Extensions = b
	}
}
