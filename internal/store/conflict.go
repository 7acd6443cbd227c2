package store

// objectConflict says what becomes of a row when another answer for its object comes: the one whose fetch began later wins, an equal one is the
// same batch repeated and renews it; last_seen_at is the newest of both whoever wins. greatest is the function's name in the dialect.
func objectConflict(greatest string) string {
	return `ON CONFLICT (id) DO UPDATE SET
	online       = CASE WHEN excluded.fetched_at >= o.fetched_at THEN excluded.online ELSE o.online END,
	data         = CASE WHEN excluded.fetched_at >= o.fetched_at THEN excluded.data ELSE o.data END,
	stored_at    = CASE WHEN excluded.fetched_at >= o.fetched_at THEN excluded.stored_at ELSE o.stored_at END,
	expires_at   = CASE WHEN excluded.fetched_at >= o.fetched_at THEN excluded.expires_at ELSE o.expires_at END,
	last_seen_at = ` + greatest + `(o.last_seen_at, excluded.last_seen_at),
	fetched_at   = ` + greatest + `(o.fetched_at, excluded.fetched_at)
WHERE excluded.fetched_at >= o.fetched_at OR excluded.last_seen_at > o.last_seen_at`
}

// After a crash a callback is done again, and its receipt written again.
const receiptConflict = `ON CONFLICT (callback_id) DO UPDATE SET
	sender = excluded.sender, tag = excluded.tag, status = excluded.status, objects = excluded.objects, stored = excluded.stored,
	missing = excluded.missing, skipped = excluded.skipped, failed = excluded.failed,
	received_at = excluded.received_at, done_at = excluded.done_at, written_at = excluded.written_at`

const deadLetterConflict = deadLetterUpdate + `
WHERE excluded.failed_at >= o.failed_at`

const deadLetterUpdate = `ON CONFLICT (sender, object_id) DO UPDATE SET
	callback_id = excluded.callback_id, reason = excluded.reason, detail = excluded.detail, attempts = excluded.attempts, failed_at = excluded.failed_at`
