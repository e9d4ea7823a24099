package multitsdb

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// slot is one tenant: its state, and what belongs to the state.
type slot struct {
	life lifecycle.Tenant
	// tenant has the TSDB of a tenant that is open, or closing and not closed yet.
	tenant *tenantDB
	// idle is what is known of a tenant that has samples and is not open.
	idle *idleTenant
	// metadata outlives TSDBs, and needs none.
	metadata *familyMetadata
	// ended is closed when the opening or closing of a busy tenant ends.
	ended chan struct{}
}

// event is an event of a tenant, with what it brings into the slot.
type event struct {
	lifecycle.Event
	tenant *tenantDB   // with Opened
	idle   *idleTenant // with OpenFailed of a tenant with unknown samples, and with the end of a closing
}

// apply is the only place at which a tenant changes its state. It returns the slot
// as it is after the event, and the effects, which the caller carries out without
// the lock.
func (d *DB) apply(id string, e event) (slot, []lifecycle.Effect) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.slots[id]
	if s == nil {
		// The epochs of a tenant that was removed are not used again.
		s = &slot{metadata: &familyMetadata{}, life: lifecycle.Tenant{Epoch: d.epoch}}
	}
	e.NotReady = !d.ready.Load()
	if e.Tenants = d.present; e.Kind == lifecycle.Metadata {
		e.Tenants = len(d.slots)
	}
	before := s.life
	next, effects := before.Next(e.Event)
	s.life, d.epoch = next, max(d.epoch, next.Epoch)
	switch {
	case next.State == lifecycle.Absent:
		s.tenant, s.idle = nil, nil
	case e.tenant != nil:
		s.tenant, s.idle = e.tenant, nil
	case e.idle != nil:
		s.tenant, s.idle = nil, e.idle
	}
	switch {
	case next.Busy() && !before.Busy():
		s.ended = make(chan struct{})
	case !next.Busy() && before.Busy():
		close(s.ended)
		s.ended = nil
	}
	d.keep(id, s, before)
	return *s, effects
}

// keep puts the slot into the map, or takes it out when there is nothing in it.
// The caller holds mu.
func (d *DB) keep(id string, s *slot, before lifecycle.Tenant) {
	if before.State != lifecycle.Absent {
		d.present--
	}
	switch {
	case s.life.State != lifecycle.Absent:
		d.present++
		d.slots[id] = s
	case s.life.Described:
		d.slots[id] = s
	default:
		delete(d.slots, id)
	}
}

// handle applies an event, carries its effects out, and applies the events that
// these end in, until there is a result: the slot of the tenant, whose TSDB is
// open if it serves the event. It may wait for an opening or closing that is under
// way, and opens and closes TSDBs itself.
func (d *DB) handle(id string, demand lifecycle.Event) (slot, error) {
	var limit int
	if demand.Kind == lifecycle.Write || demand.Kind == lifecycle.Metadata {
		limit = d.cfg.MaxTenants()
	}
	demand.MaxTenants = limit
	for e := (event{Event: demand}); ; {
		if e.Now.IsZero() {
			e.Now = time.Now()
		}
		s, effects := d.apply(id, e)
		var followUp *event
		for _, f := range effects {
			switch f.Do {
			case lifecycle.Serve, lifecycle.KeepMetadata:
				return s, nil
			case lifecycle.AnswerEmpty:
				return slot{}, nil
			case lifecycle.Refuse:
				return slot{}, d.refusal(id, f, limit)
			case lifecycle.Wait:
				<-s.ended
				followUp = &event{Event: demand}
			case lifecycle.OpenTSDB:
				followUp = d.openTSDB(id, s)
			case lifecycle.CloseTSDB:
				followUp = s.tenant.closeFor(s.life.Purpose, e.Now)
			case lifecycle.RemoveDirectory:
				followUp = d.removeDirectory(id)
			default:
				d.logEffect(id, e.Kind, s, f)
			}
		}
		opened := e.Kind == lifecycle.Opened || e.Kind == lifecycle.OpenFailed
		switch {
		case followUp != nil:
			e = *followUp
		case opened && (demand.Kind == lifecycle.Write || demand.Kind == lifecycle.Query):
			e = event{Event: demand}
		default:
			return s, e.Err
		}
	}
}

// refusal returns the error of a demand that is refused.
func (d *DB) refusal(id string, f lifecycle.Effect, limit int) error {
	switch f.Reason {
	case lifecycle.TooManyTenants:
		d.metrics.rejectedTenants.Inc()
		return remotewrite.Errorf(remotewrite.LimitExceeded, "tenant %s would be new, and this node is at its limit of %d tenants (max_tenants)", id, limit)
	case lifecycle.CannotBeOpened:
		return remotewrite.Errorf(remotewrite.Unavailable, "%w (tried again in %s)", f.Err, f.RetryAfter.Round(time.Second))
	case lifecycle.BeingReopened:
		return fmt.Errorf("tenant %s: %w", id, errReopening)
	}
	return errClosed
}

// logEffect logs what the lifecycle asks for.
func (d *DB) logEffect(id string, kind lifecycle.Kind, s slot, f lifecycle.Effect) {
	if f.Do == lifecycle.Unexpected {
		d.logger.Error("tenant lifecycle event is out of order", "tenant", id, "event", kind, "state", s.life.State)
		return
	}
	attrs := []any{"tenant", id}
	if s.tenant != nil {
		attrs = append(attrs, "series", s.tenant.db.Head().NumSeries())
	}
	if f.RetryAfter > 0 {
		attrs = append(attrs, "retry_after", f.RetryAfter)
	}
	if f.Err != nil {
		attrs = append(attrs, "err", f.Err)
	}
	switch f.Level {
	case lifecycle.Debug:
		d.logger.Debug(f.Text, attrs...)
	case lifecycle.Info:
		d.logger.Info(f.Text, attrs...)
	default:
		d.logger.Error(f.Text, attrs...)
	}
}

// look returns the slot of a tenant as it is now; the zero slot if there is none.
func (d *DB) look(id string) slot {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if s := d.slots[id]; s != nil {
		return *s
	}
	return slot{}
}

// opened returns the tenant if its TSDB is open, else nil.
func (d *DB) opened(id string) *tenantDB {
	if s := d.look(id); s.life.State == lifecycle.Open {
		return s.tenant
	}
	return nil
}

// view is a tenant as it was when it was looked at.
type view struct {
	id string
	slot
}

// views returns all tenants in the order of their names.
func (d *DB) views() []view {
	d.mu.RLock()
	out := make([]view, 0, len(d.slots))
	for id, s := range d.slots {
		out = append(out, view{id, *s})
	}
	d.mu.RUnlock()
	slices.SortFunc(out, func(a, b view) int { return cmp.Compare(a.id, b.id) })
	return out
}

// all returns the tenants that have a TSDB in memory, in the order of their names.
func (d *DB) all() []*tenantDB {
	var out []*tenantDB
	for _, v := range d.views() {
		if v.tenant != nil {
			out = append(out, v.tenant)
		}
	}
	return out
}
