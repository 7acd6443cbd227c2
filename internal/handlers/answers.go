package handlers

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// maxReceipt is more than a receipt takes, in memory or as JSON.
const maxReceipt = 2 << 10

// Answers bounds the memory of what readers ask for, until they have taken it. What a read may find at most is reserved
// before the database is asked; what it did not find is given back after it.
type Answers struct {
	maxObject int64
	maxIDs    int64
	left      *semaphore.Weighted
}

// AnswersFor is how many bytes the answers of a service may take: the largest list, and at least 64 MiB.
func AnswersFor(maxObject int64, maxIDs int) int64 {
	return max(64<<20, (maxLimit+1)*max(objectSize(maxObject), callbackSize(maxIDs)))
}

// NewAnswers bounds them for objects of up to maxObject bytes, and callbacks of up to maxIDs ids.
func NewAnswers(maxObject int64, maxIDs int) *Answers {
	return &Answers{maxObject, int64(maxIDs), semaphore.NewWeighted(AnswersFor(maxObject, maxIDs))}
}

func objectSize(data int64) int64 { return data + 512 }

// callbackSize is that of a waiting callback, which is read with its ids.
func callbackSize(maxIDs int) int64 { return maxReceipt + 8*int64(maxIDs) }

func (a *Answers) objects(ctx context.Context, n int) (*reserved, error) {
	return a.reserve(ctx, int64(n)*objectSize(a.maxObject))
}

func (a *Answers) callbacks(ctx context.Context, n int) (*reserved, error) {
	return a.reserve(ctx, int64(n)*callbackSize(int(a.maxIDs)))
}

// reserve waits for room as long as ctx allows.
func (a *Answers) reserve(ctx context.Context, n int64) (*reserved, error) {
	if err := a.left.Acquire(ctx, n); err != nil {
		e := callback.Errorf(callback.Overloaded, "answers that nobody has read yet take the memory that there is for them; "+
			"repeat later, or ask for fewer at once (limit)")
		e.RetryAfter = time.Second
		return nil, e
	}
	return &reserved{a.left, n}, nil
}

// reserved is the room of one answer.
type reserved struct {
	of *semaphore.Weighted
	n  int64
}

// keep gives back all but n bytes.
func (r *reserved) keep(n int64) {
	n = min(max(n, 0), r.n)
	r.of.Release(r.n - n)
	r.n = n
}

// release gives all of it back.
func (r *reserved) release() { r.keep(0) }

// writeObjects answers with a page, an object at a time: all of it as JSON would take the memory once more.
func writeObjects(w http.ResponseWriter, p page) {
	web.SetType(w.Header(), "application/json")
	w.WriteHeader(http.StatusOK)
	separator := `{"objects":[`
	for i := range p.Objects {
		text, err := json.Marshal(&p.Objects[i])
		if err != nil { // a bug, or a database that holds no JSON; the client sees that the answer is not whole
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write(append([]byte(separator), text...)); err != nil {
			return // the client has gone, or does not read
		}
		separator = ","
	}
	if len(p.Objects) == 0 {
		_, _ = w.Write([]byte(separator))
	}
	end := "]}"
	if p.Next != "" {
		end = `],"next":"` + p.Next + `"}`
	}
	_, _ = w.Write([]byte(end))
}
