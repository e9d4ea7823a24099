package lifecycle

func (t Tenant) write(e Event) (Tenant, []Effect) {
	if e.NotReady {
		return t, []Effect{{Do: Refuse, Reason: NotReady}}
	}
	switch t.State {
	case Absent:
		if e.full() {
			return t, []Effect{{Do: Refuse, Reason: TooManyTenants}}
		}
		return t.open()
	case Open:
		return t, just(Serve)
	case Idle:
		return t.open()
	case Failed:
		return t.retry(e)
	}
	return t, just(Wait)
}

// query never makes a tenant: one that is absent, because it was removed since
// the caller got hold of its store, has no samples.
func (t Tenant) query(e Event) (Tenant, []Effect) {
	switch t.State {
	case Absent:
		return t, just(AnswerEmpty)
	case Open:
		return t, just(Serve)
	}
	// Of a first opening the samples are not known, and those of a TSDB that is
	// being closed neither; both are waited for.
	if known := t.Extent != NoSamples || t.State == Failed; known && !t.hasSamplesIn(e.Range) {
		return t, just(AnswerEmpty)
	}
	switch {
	case e.NotReady:
		return t, []Effect{{Do: Refuse, Reason: NotReady}}
	case t.State == Closing && t.Purpose == ForReopening:
		// The closing waits for the queries under way. One of them may need the TSDB once
		// more before it ends, so that none may wait for the closing.
		return t, []Effect{{Do: Refuse, Reason: BeingReopened}}
	case t.Busy():
		return t, just(Wait)
	case t.State == Failed:
		return t.retry(e)
	}
	return t.open()
}

// metadata needs no TSDB. A tenant that is known by its metadata alone counts
// against the limit too, as its name may come from any sender.
func (t Tenant) metadata(e Event) (Tenant, []Effect) {
	if t.State == Absent && !t.Described && e.full() {
		return t, []Effect{{Do: Refuse, Reason: TooManyTenants}}
	}
	t.Described = true
	return t, just(KeepMetadata)
}

func (t Tenant) found() (Tenant, []Effect) {
	if t.State != Absent {
		return t.unexpected()
	}
	t.Extent = Unknown
	return t.open()
}

func (t Tenant) shutdown() (Tenant, []Effect) {
	switch t.State {
	case Open:
		t.State, t.Purpose = Closing, ForShutdown
		return t, just(CloseTSDB)
	case Opening, Closing:
		return t, just(Wait)
	}
	return t.absent(), nil
}

// absent keeps the metadata, which needs no TSDB.
func (t Tenant) absent() Tenant { return Tenant{Epoch: t.Epoch, Described: t.Described} }

func (t Tenant) idleCheckPassed(e Event) (Tenant, []Effect) {
	if t.State != Open || t.Epoch != e.Epoch || e.NotReady {
		return t, nil
	}
	t.State, t.Purpose = Closing, ForIdle
	return t, just(CloseTSDB)
}

func (t Tenant) expired(e Event) (Tenant, []Effect) {
	if t.Epoch != e.Epoch || e.NotReady {
		return t, nil
	}
	switch {
	case t.State == Open:
		t.State, t.Purpose = Closing, ForRemoval
		return t, just(CloseTSDB)
	case t.State == Idle, t.State == Failed && t.Extent == Within:
		t.State, t.Purpose = Closing, ForRemoval
		return t, just(RemoveDirectory)
	}
	return t, nil
}

// logFailed closes an open tenant, to open it from its log. The log has all
// that was acknowledged; the head has more, such as series of writes that failed.
func (t Tenant) logFailed(e Event) (Tenant, []Effect) {
	if t.State != Open || t.Epoch != e.Epoch || e.NotReady {
		return t, nil
	}
	t.State, t.Purpose = Closing, ForReopening
	return t, []Effect{logged(Error, "tenant is opened again after its write-ahead log could not be written"), {Do: CloseTSDB}}
}

// maintenance forgets a tenant that could not be made and has not been written to
// since: its name may come from any sender.
func (t Tenant) maintenance(e Event) (Tenant, []Effect) {
	if t.Epoch != e.Epoch || e.NotReady {
		return t, nil
	}
	switch {
	case t.State == Idle:
		return t.open()
	case t.State == Failed && t.Extent == NoSamples:
		if e.Now.Sub(t.RetryAt) > MaxPause {
			return t.absent(), nil
		}
	case t.State == Failed && !e.Now.Before(t.RetryAt):
		return t.open()
	}
	return t, nil
}

func (t Tenant) open() (Tenant, []Effect) {
	t.State = Opening
	t.Epoch++
	return t, just(OpenTSDB)
}

// retry opens a failed tenant unless its pause is not over.
func (t Tenant) retry(e Event) (Tenant, []Effect) {
	if wait := t.RetryAt.Sub(e.Now); wait > 0 {
		return t, []Effect{{Do: Refuse, Reason: CannotBeOpened, RetryAfter: wait, Err: t.Err}}
	}
	return t.open()
}

func (t Tenant) afterOpen(e Event) (Tenant, []Effect) {
	if t.State != Opening {
		return t.unexpected()
	}
	if e.Kind == Opened {
		// The TSDB of an open tenant knows the range of its samples.
		return Tenant{State: Open, Epoch: t.Epoch, Described: t.Described}, []Effect{logged(Info, "tenant opened")}
	}
	pause := min(MaxPause, FirstPause<<min(t.Failures, 10))
	t.State, t.Err, t.RetryAt = Failed, e.Err, e.Now.Add(pause)
	t.Failures++
	return t, []Effect{{Do: Log, Level: Error, Text: "tenant cannot be opened", Err: e.Err, RetryAfter: pause}}
}

// closingTSDB tells the closing of a TSDB from the removal of a directory, before
// which it is known what is in it.
func (t Tenant) closingTSDB() bool { return t.State == Closing && t.Extent == NoSamples }

// afterClose handles the end of closing a TSDB: success, an error, or Busy if the
// tenant was used meanwhile, after which it is open. A tenant is removed
// only after a close without an error. One that is opened again is opened after any.
func (t Tenant) afterClose(e Event) (Tenant, []Effect) {
	if !t.closingTSDB() || e.Kind == Busy && (t.Purpose == ForShutdown || t.Purpose == ForReopening) {
		return t.unexpected()
	}
	if e.Kind == Busy {
		t.State, t.Purpose = Open, ForIdle
		return t, nil
	}
	var effects []Effect
	if e.Kind == CloseFailed {
		effects = []Effect{{Do: Log, Level: Error, Text: "tenant closed with an error", Err: e.Err}}
	}
	t.Extent, t.Range = Within, e.Range
	switch {
	case t.Purpose == ForShutdown:
		return t.absent(), effects
	case t.Purpose == ForReopening && !e.NotReady:
		// A query waits for the opening: the log may have samples of any time.
		t.Extent, t.Purpose = Unknown, ForIdle
		opening, do := t.open()
		return opening, append(effects, do...)
	case t.Purpose == ForRemoval && e.Kind == Closed:
		return t, append(effects, Effect{Do: RemoveDirectory})
	}
	// A tenant whose TSDB closed with an error is not removed before the next check.
	t.State, t.Purpose = Idle, ForIdle
	if e.Kind == Closed {
		effects = append(effects, logged(Debug, "idle tenant closed"))
	}
	return t, effects
}

func (t Tenant) afterRemove(e Event) (Tenant, []Effect) {
	if t.State != Closing || t.closingTSDB() {
		return t.unexpected()
	}
	if e.Kind == Removed {
		return Tenant{Epoch: t.Epoch}, []Effect{logged(Info, "tenant past its retention removed")}
	}
	t.State, t.Purpose = Idle, ForIdle
	return t, []Effect{{Do: Log, Level: Error, Text: "tenant cannot be removed", Err: e.Err}}
}
