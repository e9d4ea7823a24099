package sidecar

import "errors"

// newShipper builds the shipper of the data directory.
func (s *Sidecar) newShipper() (blockShipper, error) {
	return nil, errors.New("shipping is not part of this build; start without --objstore.config")
}
