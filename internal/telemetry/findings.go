package telemetry

import "fmt"

// Finding is one answer to "why is an object late?".
type Finding struct {
	Code   string `json:"code"`
	Level  string `json:"level"` // trouble: somebody should act; notice: it explains what is seen
	Detail string `json:"detail"`
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
)

// findings looks for what holds objects up, the most likely reason first: never nil.
func findings(s Stats) []Finding {
	all := []Finding{}
	say := func(when bool, code, level, detail string, args ...any) {
		if when {
			all = append(all, Finding{code, level, fmt.Sprintf(detail, args...)})
		}
	}
	waiting := s.InboxIDs - int64(s.PoolInFlight) // the inbox still has those that are under way
	var fetched, failed float64
	for outcome, n := range s.Fetches {
		if fetched += n; outcome != "ok" && outcome != "missing" {
			failed += n
		}
	}
	say(s.Paused, "paused", Trouble, "Dispatching is paused: nothing new is fetched until it is resumed.")
	say(!s.DatabaseUp, "database_down", Trouble, "The database does not answer. Callbacks are accepted and wait; nothing is stored, read or deleted.")
	say(s.DatabaseUp && s.SaveErrors+s.ExpireErrors > 0, "database_failing", Trouble,
		"The database answers, but writes to it fail. They are repeated; the log has the error.")
	say(s.DatabaseDamaged > 0, "database_damaged", Trouble,
		"The file of the embedded database was damaged and replaced, %d times since the start. The log says where the damaged file is and what came back of it. Look at the disk.",
		s.DatabaseDamaged)
	say(s.InboxDamaged > 0, "inbox_damaged", Trouble,
		"The file of the inbox was damaged and replaced, %d times since the start; %d callbacks could not be brought back. The log says where the damaged file is. Look at the disk.",
		s.InboxDamaged, s.InboxLost)
	say(s.InboxSetAside > 0, "inbox_set_aside", Trouble,
		"%d rows of the inbox were damaged and set aside since the start; \"callback-service inbox stat\" lists them. Look at the disk.", s.InboxSetAside)
	say(s.BreakerOpen, "breaker_open", Trouble, "The object source is down: the circuit breaker is open and probes it, at most every 10 s. Callbacks wait, and no attempt is spent.")
	say(!s.BreakerOpen && fetched > 0 && failed/fetched > manyErrors, "source_failing", Trouble,
		"%.0f%% of all fetches fail, and are tried again after a pause.", 100*failed/fetched)
	say(s.FetchP50 != nil && *s.FetchP50 > slowSource, "source_slow", Notice,
		"The object source is slow: every other fetch takes longer than %.1f s.", millis(s.FetchP50)/1000)
	say(s.PoolInFlight >= s.PoolWorkers && waiting >= int64(s.PoolWorkers) && waiting > 0, "pool_full", Trouble,
		"All %d workers are busy and %d more ids wait. More workers (pool_workers) help, if the source can bear them.", s.PoolWorkers, waiting)
	say(s.InboxOldest > lateInbox, "inbox_late", Notice,
		"The oldest callback has waited for %.0f s; %d callbacks with %d ids are in the inbox.", s.InboxOldest, s.InboxDepth, s.InboxIDs)
	say(s.InboxMaxBytes > 0 && float64(s.InboxBytes) > nearlyFull*float64(s.InboxMaxBytes), "inbox_filling", Trouble,
		"The inbox is %.0f%% full; at 100%% senders are refused.", 100*float64(s.InboxBytes)/float64(max(1, s.InboxMaxBytes)))
	say(s.RefusedPerSecond > 0, "refusing", Trouble, "%.1f callbacks a second are refused for trouble of this service; callback_rejected_total says by which code.", s.RefusedPerSecond)
	say(s.AckP99 != nil && *s.AckP99 > slowAck, "ack_slow", Notice, "One acknowledgement in a hundred takes over %.0f ms: the disk of the inbox is slow or busy.", millis(s.AckP99))
	say(s.ExpiryLagP99 != nil && *s.ExpiryLagP99 > slowDelete, "expiry_late", Notice, "One object in a hundred is deleted over %.0f ms late.", millis(s.ExpiryLagP99))
	say(s.DeadLettersPerSecond > 0, "dead_letters", Trouble, "Ids are given up and become dead letters, %d since the start.", s.DeadLetters)
	return all
}

func millis(ms *float64) float64 {
	if ms == nil {
		return 0
	}
	return *ms
}
