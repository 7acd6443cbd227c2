// Package callback holds the domain's words: what a sender posts, what the object source answers, and what became of both.
// It is the leaf that every stage of the pipeline shares, and imports none of them.
package callback

import (
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/oklog/ulid/v2"
)

// Callback is one accepted POST: a thin event saying "these objects changed".
type Callback struct {
	// Seq is the position in the inbox, given by the inbox at the append; it never repeats, not even in an emptied inbox.
	Seq int64
	// ID is a ULID. It names the callback to its sender; it does not order it (clocks step back, Seq does not).
	ID string
	// Sender is who posted it; empty while authentication is off.
	Sender string
	// Tag is the sender's own label, at most MaxTag bytes.
	Tag string
	// Objects are the distinct object ids that are still to do, none negative, in the order they were posted.
	Objects []int64
	// Attempts counts the fetches that each of Objects has used up, in the same order. It is nil until the callback was deferred.
	Attempts []uint8
	// Later are those ids, not in Objects, that may not be fetched yet: the inbox has them with their due times.
	Later []Waiting
	// Done counts the ids that were settled before the callback was deferred: they are no longer in Objects.
	Done Counts
	// Received is when the request was accepted, to the microsecond.
	Received time.Time
	// Trace is the request's trace context as telemetry.Propagated wrote it down, or empty.
	Trace string
}

// Total is the number of distinct ids that the sender posted.
func (c *Callback) Total() int { return len(c.Objects) + len(c.Later) + c.Done.Sum() }

// Waiting is an id of a callback that may not be fetched before its time.
type Waiting struct {
	Object   int64
	Due      time.Time
	Attempts uint8 // fetches that it has used up
}

// Deferral says what waits of a callback whose ids were tried. The inbox keeps it in a row of its own, so that the callback is never
// rewritten. A later deferral of the same callback replaces an earlier one.
type Deferral struct {
	Seq     int64     // of the callback
	Sender  string    // of the callback
	Waiting []Waiting // every id of it that waits in the inbox, at least one
	// Parked says that all else of the callback has its outcome, which Done counts: it comes out again when the first of Waiting is due.
	// Otherwise the rest is still being worked on, and after a restart all of it but Waiting is done again.
	Parked bool
	Done   Counts
}

// Key is a sender's own name for a request, under which a repeat of it is known.
type Key struct {
	Value  string   // empty: none
	Digest [32]byte // SHA-256 of the body: another body under the same key is a mistake
}

// NewID returns a fresh ULID for a callback received at t.
func NewID(t time.Time) string {
	return ulid.MustNew(ulid.Timestamp(t), rand.Reader).String()
}

// ValidID reports whether s could have come from NewID.
func ValidID(s string) bool {
	_, err := ulid.ParseStrict(s)
	return err == nil
}

// Object is what the source answered for one id, with its times. As JSON it is the object on the wire.
type Object struct {
	ID     int64 `json:"id"`
	Online bool  `json:"online"`
	// LastSeenAt is when the newest callback that named the object was received.
	LastSeenAt time.Time `json:"last_seen_at"`
	// StoredAt and ExpiresAt are read by the store's clock; a writer leaves them zero.
	StoredAt  time.Time `json:"stored_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// Data is the source's answer: one valid JSON value.
	Data json.RawMessage `json:"data"`
	// FetchedAt is when the fetch began, with the monotonic reading of time.Now, which alone counts. Of two answers for one id the one with
	// the later FetchedAt wins.
	FetchedAt time.Time `json:"-"`
}

// Expired is an object that was deleted at the end of its time.
type Expired struct {
	ObjectID int64
	Lag      time.Duration // how long after its time
}

// Counts says what became of a callback's ids.
type Counts struct {
	Stored  int `json:"stored"`
	Missing int `json:"missing"` // the source answered 404 or 410
	Skipped int `json:"skipped"` // offline, and only online objects are kept
	Failed  int `json:"failed"`  // dead-lettered
}

// Sum is the number of ids with an outcome.
func (c Counts) Sum() int { return c.Stored + c.Missing + c.Skipped + c.Failed }

// Plus adds two counts.
func (c Counts) Plus(o Counts) Counts {
	return Counts{c.Stored + o.Stored, c.Missing + o.Missing, c.Skipped + o.Skipped, c.Failed + o.Failed}
}

// Status is where a callback stands.
type Status string

// The statuses of a receipt: the first three in the order a callback goes through them.
const (
	StatusAccepted   Status = "accepted"   // durable, waiting in the inbox
	StatusProcessing Status = "processing" // some of its ids are with the dispatcher
	StatusDone       Status = "done"       // every id has its outcome committed in the store
	StatusDamaged    Status = "damaged"    // its record was damaged on disk: what became of its ids is not known
)

// Final reports whether no more becomes of such a callback: its receipt is in the store.
func (s Status) Final() bool { return s == StatusDone || s == StatusDamaged }

// Receipt says what became of one callback. Once it is done, Objects is the sum of its Counts.
type Receipt struct {
	CallbackID string `json:"callback_id"`
	Sender     string `json:"sender"`
	Tag        string `json:"tag"`
	Status     Status `json:"status"`
	Objects    int    `json:"objects"`
	Counts
	ReceivedAt time.Time  `json:"received_at"`
	DoneAt     *time.Time `json:"done_at,omitempty"` // nil until done; of a damaged one: when that was found
}

// DeadLetter is an id that could not be fetched or stored after all attempts, kept until somebody redrives or drops it.
// There is at most one for each sender and object: a later failure replaces an earlier one.
type DeadLetter struct {
	Sender     string    `json:"sender"`
	ObjectID   int64     `json:"object_id"`
	CallbackID string    `json:"callback_id"` // the last callback that failed on it
	Reason     Reason    `json:"reason"`
	Detail     string    `json:"detail"` // for a person: the last error
	Attempts   int       `json:"attempts"`
	FailedAt   time.Time `json:"failed_at"`
}

// ObjectQuery asks for a page of objects, by id.
type ObjectQuery struct {
	Online *bool // nil: both
	After  int64 // the last id of the page before; -1 for the first page
	Limit  int
}

// DeadLetterQuery asks for dead letters, by sender and object.
type DeadLetterQuery struct {
	Reason      Reason    // empty: any
	Sender      string    // empty: any
	Since       time.Time // that failed then or later; zero: whenever
	AfterSender string    // the last one of the page before: its sender,
	AfterID     int64     // and its object; -1 for the first page
	Limit       int
}

// ReceiptQuery asks for receipts, the newest first. Their order is that of their ids, which begin with the time of their callback.
type ReceiptQuery struct {
	Tag, Sender string // empty: any
	Status      Status // empty: any. Those that are done or damaged are in the store, the others in the inbox
	From, Until string // ids from the first to before the second, see FirstID; empty: no bound
	Limit       int
}

// FirstID is the smallest id of a callback received at t, to the millisecond.
func FirstID(t time.Time) string {
	var id ulid.ULID
	_ = id.SetTime(ulid.Timestamp(t)) // it fails after the year 10889, and then leaves zero
	return id.String()
}

// Batch is what the dispatcher's writer commits at once. A callback's receipt is in the batch of its last outcome, or in a later one.
type Batch struct {
	Objects     []Object
	DeadLetters []DeadLetter
	Receipts    []Receipt
}
