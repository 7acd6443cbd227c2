package diagnose

import (
	"fmt"
	"time"
)

// Finding is one answer to "why is an object late?".
type Finding struct {
	Code   string `json:"code"`
	Level  string `json:"level"` // trouble: somebody should act; notice: it explains what is seen
	Detail string `json:"detail"`
	Stage  string `json:"stage,omitempty"` // that makes no progress, of telemetry.Stages; empty: it is no such finding
}

// The levels of a finding.
const (
	Trouble = "trouble"
	Notice  = "notice"
)

const (
	slowSource = 1000 // ms; more than that for every other fetch, and the source is why objects take long
	slowAck    = 50   // ms; what the alert AcknowledgementsSlow says too
	slowDelete = 100  // ms; promise 5
	lateInbox  = 10   // seconds
	nearlyFull = 0.8  // of --inbox-max-bytes; what the alert InboxFilling says too
	manyErrors = 0.1  // of all fetches

	// How long a stage may have one thing in hand before it counts as standing still. A group takes
	// milliseconds, and the inbox refuses callbacks after two seconds.
	stuckGroup  = 2 * time.Second
	stuckDue    = window * time.Second // no fetch ended in all of the window
	stuckSave   = 5 * time.Second
	stuckExpire = 5 * time.Second
	limitedDue  = time.Second // how long ids wait that the limit holds up
)

// finder gathers findings.
type finder struct {
	Stats
	r   Reports
	all []Finding
}

// findings looks for what holds objects up, the most likely reason first: never nil.
func findings(s Stats, r Reports) []Finding {
	f := &finder{Stats: s, r: r, all: []Finding{}}
	f.say(s.Paused, "paused", Trouble, "Dispatching is paused: nothing new is fetched until it is resumed.")
	f.database()
	f.inbox()
	f.source()
	f.pool()
	f.senders()
	f.say(s.ExpiryLagP99 != nil && *s.ExpiryLagP99 > slowDelete, "expiry_late", Notice,
		"One object in a hundred is deleted over %.0f ms late.", millis(s.ExpiryLagP99))
	f.say(s.DeadLettersPerSecond > 0, "dead_letters", Trouble,
		"Ids are given up and become dead letters, %d since the start.", s.DeadLetters)
	f.say(r.Task != "" && s.DatabaseUp, "task_late", Trouble,
		"The task %s should have run %.0f s ago, and has not succeeded since. The list of tasks says why.",
		r.Task, r.TaskLate.Seconds())
	return f.all
}

func (f *finder) say(when bool, code, level, detail string, args ...any) {
	if when {
		f.all = append(f.all, Finding{Code: code, Level: level, Detail: fmt.Sprintf(detail, args...)})
	}
}

// stuck says that a stage makes no progress.
func (f *finder) stuck(when bool, stage, code, detail string, args ...any) {
	if when {
		f.all = append(f.all, Finding{Code: code, Level: Trouble, Detail: fmt.Sprintf(detail, args...), Stage: stage})
	}
}

func (f *finder) inbox() {
	f.stuck(f.r.Inbox.Busy > stuckGroup, "group", "inbox_stuck",
		"The disk of the inbox has not answered for %.0f s; callbacks are refused until it does.",
		f.r.Inbox.Busy.Seconds())
	f.say(f.InboxDamaged > 0, "inbox_damaged", Trouble,
		"The file of the inbox was damaged and replaced, %d times since the start; %d callbacks could not be brought back. "+
			"The log says where the damaged file is. Look at the disk.",
		f.InboxDamaged, f.InboxLost)
	f.say(f.InboxSetAside > 0, "inbox_set_aside", Trouble,
		"%d rows of the inbox were damaged and set aside since the start; \"callback-service inbox stat\" lists them. "+
			"Look at the disk.", f.InboxSetAside)
}

func (f *finder) database() {
	d := f.r.Dispatch
	f.say(!f.DatabaseUp, "database_down", Trouble,
		"The database does not answer. Callbacks are accepted and wait; nothing is stored, read or deleted.")
	f.stuck(f.DatabaseUp && d.Saving > stuckSave && d.SaveError == "", "save", "database_slow",
		"The database answers, but has been at one batch for %.0f s; %d more outcomes wait for it.",
		d.Saving.Seconds(), d.Unsaved)
	f.stuck(f.DatabaseUp && d.Saving > stuckSave && d.SaveError != "", "save", "database_failing",
		"The database answers, but has failed to take a batch for %.0f s: %s. "+
			"The batch is tried again, and what keeps failing is isolated to let the rest pass; %d more outcomes wait.",
		d.Saving.Seconds(), short(d.SaveError), d.Unsaved)
	f.stuck(f.DatabaseUp && f.r.Overdue > stuckExpire, "expire", "expirer_stuck",
		"The database answers, but nothing that expired could be deleted for %.0f s. Readers do not see it.",
		f.r.Overdue.Seconds())
	f.say(f.DatabaseDamaged > 0, "database_damaged", Trouble,
		"The file of the embedded database was damaged and replaced, %d times since the start. "+
			"The log says where the damaged file is and what came back of it. Look at the disk.", f.DatabaseDamaged)
}

func (f *finder) source() {
	var fetched, failed float64
	for outcome, n := range f.Fetches {
		if fetched += n; outcome != "ok" && outcome != "missing" {
			failed += n
		}
	}
	d := f.r.Dispatch
	f.say(!f.SourceUp, "source_down", Trouble,
		"The object source %s has been down for %.0f s: %s. "+
			"Callbacks are accepted and wait, and no attempt is spent; it is tried again and again.",
		d.Source.Address, f.SourceDown, short(d.Source.Error))
	f.say(f.SourceUp && fetched > 0 && failed/fetched > manyErrors, "source_failing", Trouble,
		"%.0f%% of all fetches fail, and are tried again after a pause.", 100*failed/max(fetched, 1e-9))
	f.say(f.NoEvidence > 0, "source_no_evidence", Trouble,
		"%d ids failed while the source answered nobody else well, so that nothing is known against them. "+
			"They are tried again after pauses that grow to ten minutes. Once the source answers others, "+
			"their failures count. POST /admin/waiting/{id}/drop gives one up.", f.NoEvidence)
	f.say(f.FetchP50 != nil && *f.FetchP50 > slowSource, "source_slow", Notice,
		"The object source is slow: every other fetch takes longer than %.1f s.", millis(f.FetchP50)/1000)
	saved := f.DatabaseUp && d.Saving <= stuckSave // else what waits for the database explains it
	f.stuck(f.SourceUp && !f.Paused && saved && fetched == 0 && d.OldestDue > stuckDue, "due", "dispatch_stuck",
		"An id that may be fetched now has waited for %.0f s, and no fetch has ended in the last %.0f s.",
		d.OldestDue.Seconds(), f.Window)
	held := time.Until(d.HeldUntil)
	f.say(held > 0, "pool_held", Notice, "Many fetches were told by the source to come again later (Retry-After): nothing is fetched for %.0f s more.",
		held.Seconds())
	limited := held <= 0 && d.Limit < f.PoolWorkers && d.InFlight >= d.Limit && d.OldestDue > limitedDue
	f.say(f.SourceUp && limited, "pool_limited", Notice,
		"The source is given %d fetches at once, of %d workers: %s.", d.Limit, f.PoolWorkers, f.whyLimited())
}

// whyLimited is the likely reason why the source is given fewer fetches at once than there are workers.
func (f *finder) whyLimited() string {
	reasons := []struct{ outcome, text string }{
		{"throttled", "it throttles (429)"}, {"timeout", "fetches time out"},
		{"connect", "connections to it fail"}, {"status", "it answers with errors"},
	}
	for _, r := range reasons {
		if f.Fetches[r.outcome] > 0 {
			return r.text
		}
	}
	return "more at once brought no more answers"
}

func (f *finder) pool() {
	waiting := f.InboxIDs - int64(f.PoolInFlight) // the inbox still has those that are under way
	f.say(f.PoolInFlight >= f.PoolWorkers && waiting >= int64(f.PoolWorkers) && waiting > 0, "pool_full", Trouble,
		"All %d workers are busy and %d more ids wait. More workers (pool_workers) help, if the source can bear them.",
		f.PoolWorkers, waiting)
	f.say(f.InboxOldest > lateInbox, "inbox_late", Notice,
		"The oldest callback has waited for %.0f s; %d callbacks with %d ids are in the inbox.",
		f.InboxOldest, f.InboxDepth, f.InboxIDs)
}

func (f *finder) senders() {
	f.say(f.InboxMaxBytes > 0 && float64(f.InboxBytes) > nearlyFull*float64(f.InboxMaxBytes), "inbox_filling", Trouble,
		"The inbox is %.0f%% full; at 100%% senders are refused.",
		100*float64(f.InboxBytes)/float64(max(1, f.InboxMaxBytes)))
	f.say(f.RefusedPerSecond > 0, "refusing", Trouble,
		"%.1f callbacks a second are refused for trouble of this service; callback_rejected_total says by which code.",
		f.RefusedPerSecond)
	f.say(f.AckP99 != nil && *f.AckP99 > slowAck, "ack_slow", Notice,
		"One acknowledgement in a hundred takes over %.0f ms: the disk of the inbox is slow or busy.",
		millis(f.AckP99))
}

// short is an error that fits into a sentence.
func short(text string) string {
	const most = 200
	if text == "" {
		return "the log has the error"
	}
	if len(text) <= most {
		return text
	}
	return fmt.Sprintf("%.*s…", most, text)
}

func millis(ms *float64) float64 {
	if ms == nil {
		return 0
	}
	return *ms
}
