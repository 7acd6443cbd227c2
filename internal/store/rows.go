package store

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"callback-service/internal/callback"
)

// Texts of our own must not stand in the way of what they accompany: no database takes more than these of them, in bytes.
const (
	maxName   = 256 // of a sender: part of an index, which PostgreSQL limits to 2,700
	maxTag    = 1024
	maxDetail = 2000
)

// objectRows is written by hand: Data goes in as it is, and reading it again is what costs. at says what the time of a fetch is by the clock
// that orders rows.
func objectRows(objects []callback.Object, at func(time.Time) int64) string {
	size := 2
	for i := range objects {
		size += len(objects[i].Data) + 100
	}
	b := append(make([]byte, 0, size), '[')
	for i := range objects {
		o := &objects[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"i":`...), o.ID, 10)
		b = strconv.AppendBool(append(b, `,"o":`...), o.Online)
		b = strconv.AppendInt(append(b, `,"s":`...), o.LastSeenAt.UnixMicro(), 10)
		b = strconv.AppendInt(append(b, `,"f":`...), at(o.FetchedAt), 10)
		b = append(b, `,"d":`...)
		if len(o.Data) > 0 {
			b = append(b, o.Data...)
		} else {
			b = append(b, `null`...)
		}
		b = append(b, '}')
	}
	return string(append(b, ']'))
}

type deadLetterRow struct {
	Sender   string          `json:"sender"`
	Object   int64           `json:"object"`
	Callback string          `json:"callback"`
	Reason   callback.Reason `json:"reason"`
	Detail   string          `json:"detail"`
	Attempts int             `json:"attempts"`
	Failed   int64           `json:"failed"`
}

func deadLetterRows(letters []callback.DeadLetter) string {
	rows := make([]deadLetterRow, len(letters))
	for i, l := range letters {
		rows[i] = deadLetterRow{l.Sender, l.ObjectID, l.CallbackID, l.Reason, l.Detail, l.Attempts, l.FailedAt.UnixMicro()}
	}
	return mustJSON(rows)
}

type receiptRow struct {
	ID      string          `json:"id"`
	Sender  string          `json:"sender"`
	Tag     string          `json:"tag"`
	Status  callback.Status `json:"status"`
	Objects int             `json:"objects"`
	callback.Counts
	Received int64  `json:"received"`
	Done     *int64 `json:"done"`
}

func receiptRows(receipts []callback.Receipt) string {
	rows := make([]receiptRow, len(receipts))
	for i, r := range receipts {
		rows[i] = receiptRow{r.CallbackID, r.Sender, r.Tag, r.Status, r.Objects, r.Counts, r.ReceivedAt.UnixMicro(), nil}
		if r.DoneAt != nil {
			done := r.DoneAt.UnixMicro()
			rows[i].Done = &done
		}
	}
	return mustJSON(rows)
}

// mustJSON is for numbers and strings, which encoding/json never refuses.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func cleanDeadLetter(l callback.DeadLetter) callback.DeadLetter {
	l.Sender, l.CallbackID = clean(l.Sender, maxName), clean(l.CallbackID, maxName)
	l.Reason, l.Detail = callback.Reason(clean(string(l.Reason), maxName)), clean(l.Detail, maxDetail)
	return l
}

func cleanReceipt(r callback.Receipt) callback.Receipt {
	r.CallbackID, r.Sender, r.Tag = clean(r.CallbackID, maxName), clean(r.Sender, maxName), clean(r.Tag, maxTag)
	r.Status = callback.Status(clean(string(r.Status), maxName))
	return r
}

// clean makes s a text that both databases take: valid UTF-8 without NUL, of at most limit bytes. Most texts are already.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "�")
	if len(s) <= limit {
		return s
	}
	for !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// instant reads a time from either database: a timestamptz, or microseconds UTC. NULL leaves the target as it is.
type instant struct{ to *time.Time }

func (i instant) Scan(value any) error {
	switch v := value.(type) {
	case time.Time:
		*i.to = v.UTC()
	case int64:
		*i.to = time.UnixMicro(v).UTC()
	}
	return nil
}
