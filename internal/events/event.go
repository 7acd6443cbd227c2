package events

import (
	"encoding/json"
	"fmt"
	"time"
)

// Type names what happened.
type Type string

// The types of events, and what Of is of each.
const (
	CallbackAccepted Type = "callback.accepted" // callback.Receipt
	CallbackDone     Type = "callback.done"     // callback.Receipt, committed
	ObjectStored     Type = "object.stored"     // Stored, committed; one event for each callback that the object was fetched for
	ObjectExpired    Type = "object.expired"    // Expired; the row is gone
	DeadLetter       Type = "dead_letter"       // callback.DeadLetter, committed
	Stats            Type = "stats"             // telemetry.Stats, each second
)

// Types are all of them.
func Types() []Type {
	return []Type{CallbackAccepted, CallbackDone, ObjectStored, ObjectExpired, DeadLetter, Stats}
}

// ofNobody are the types of events that are about no sender's callback.
var ofNobody = map[Type]bool{ObjectExpired: true, Stats: true}

// Event is something that happened.
type Event struct {
	Type   Type
	At     time.Time
	Sender string // of the callback that it is about
	Of     any    // becomes a JSON object
}

// Stored is what an ObjectStored is of.
type Stored struct {
	ObjectID   int64  `json:"object_id"`
	Online     bool   `json:"online"`
	CallbackID string `json:"callback_id"`
	Sender     string `json:"sender"`
}

// Expired is what an ObjectExpired is of.
type Expired struct {
	ObjectID int64   `json:"object_id"`
	LateMS   float64 `json:"late_ms"` // how long after its time it was deleted
}

// MarshalJSON is one flat object: type and at, and then what Of has.
func (e Event) MarshalJSON() ([]byte, error) {
	fields, err := json.Marshal(e.Of)
	if err != nil {
		return nil, err
	}
	if len(fields) < 3 || fields[0] != '{' {
		return nil, fmt.Errorf("an event must be of an object with fields, not %.40s", fields)
	}
	text := fmt.Appendf(nil, `{"type":%q,"at":%q,`, e.Type, e.At.UTC().Format(time.RFC3339Nano))
	return append(text, fields[1:]...), nil
}
