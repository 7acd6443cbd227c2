package web

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"callback-service/internal/callback"
)

// firstBuffer is what every body may take without the budget. Most callbacks fit in it, so that they are taken
// whatever large bodies do; its memory is part of what a connection costs.
const firstBuffer = 4 << 10

// Decoders is how many large bodies are decoded at once: what encoding/json makes of a body that was written for the
// purpose takes ten times its memory.
const Decoders = 4

// BodyBudget bounds the memory of all bodies that are being read or decoded. It counts the buffers that their bytes
// have grown into, and never what a Content-Length says. One sender, and all whose sender is not known together, hold
// at most half of it. All methods may be called at once.
type BodyBudget struct {
	limit    int64
	decoding chan struct{}

	mu   sync.Mutex
	held int64
	of   map[string]int64 // bytes by sender; "" are all whose sender is not known
}

// NewBodyBudget makes a budget of limit bytes. A half of it must be enough for the largest body and the buffer that it
// grew out of: see BudgetFor.
func NewBodyBudget(limit int64) *BodyBudget {
	return &BodyBudget{limit: limit, decoding: make(chan struct{}, Decoders), of: map[string]int64{}}
}

// BudgetFor is the budget of a service that takes bodies of up to maxBody bytes: 32 MiB, and at least four bodies.
func BudgetFor(maxBody int64) int64 { return max(32<<20, 4*(maxBody+1)) }

// Held is how many bytes are taken.
func (b *BodyBudget) Held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// take counts n bytes for sender, or none when they do not fit.
func (b *BodyBudget) take(sender string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+n > b.limit || b.of[sender]+n > b.limit/2 {
		return false
	}
	b.held += n
	b.of[sender] += n
	return true
}

func (b *BodyBudget) giveBack(sender string, n int64) {
	if n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held -= n
	if b.of[sender] -= n; b.of[sender] == 0 {
		delete(b.of, sender)
	}
}

// pass moves n bytes to another sender, or none when they do not fit into its half.
func (b *BodyBudget) pass(from, to string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of[to]+n > b.limit/2 {
		return false
	}
	b.of[to] += n
	if b.of[from] -= n; b.of[from] == 0 {
		delete(b.of, from)
	}
	return true
}

var firstBuffers = sync.Pool{New: func() any { return new([firstBuffer]byte) }}

// Body is a request's body in memory. It belongs to the request's goroutine. As the request's Body it can be read
// again by Read of the same budget.
type Body struct {
	budget *BodyBudget
	sender string
	taken  int64 // from the budget
	first  *[firstBuffer]byte
	bytes  []byte
	at     int // how far it was read as the request's Body
}

// Read reads the body of r, which sender ("" while it is not known) sent, as far as it may be long. A body that was
// read for a sender that was not known then becomes sender's. The caller calls Release when it no longer needs the
// bytes. Errors are *callback.Error: overloaded when there is no room for what has come.
func (b *BodyBudget) Read(w http.ResponseWriter, r *http.Request, sender string, limit int64) (*Body, error) {
	if body, ok := r.Body.(*Body); ok {
		return body, body.belongTo(sender)
	}
	if r.ContentLength > limit {
		return nil, refuseUnread(w, r, tooLarge(limit))
	}
	body := &Body{budget: b, sender: sender, first: firstBuffers.Get().(*[firstBuffer]byte)}
	body.bytes = body.first[:0]
	read := false
	defer func() { // after a panic of what is around r.Body, too
		if !read {
			body.Release()
		}
	}()
	err := body.fill(http.MaxBytesReader(w, r.Body, limit), limit)
	if errors.Is(err, errNoRoom) {
		return nil, refuseUnread(w, r, noRoom(b.limit))
	}
	if err != nil {
		return nil, readError(w, r, err, limit)
	}
	read = true
	return body, nil
}

var errNoRoom = errors.New("the budget of bodies is used up")

func noRoom(limit int64) *callback.Error {
	e := callback.Errorf(callback.Overloaded, "the bodies that are being read take the memory that there is for them: "+
		"%d bytes, half of them for one sender; repeat later", limit)
	e.RetryAfter = time.Second
	return e
}

func (b *Body) fill(from io.Reader, limit int64) error {
	for {
		if len(b.bytes) == cap(b.bytes) && !b.grow(limit) {
			return errNoRoom
		}
		n, err := from.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// grow doubles the buffer, up to a byte more than the body may be long: what is full then has met its end already.
func (b *Body) grow(limit int64) bool {
	size := min(2*int64(cap(b.bytes)), limit+1)
	if !b.budget.take(b.sender, size) {
		return false
	}
	b.bytes = append(make([]byte, 0, size), b.bytes...)
	b.budget.giveBack(b.sender, b.taken)
	b.taken = size
	b.freeFirst()
	return true
}

func (b *Body) freeFirst() {
	if b.first != nil {
		firstBuffers.Put(b.first)
		b.first = nil
	}
}

func (b *Body) belongTo(sender string) error {
	if b.taken > 0 && sender != b.sender && !b.budget.pass(b.sender, sender, b.taken) {
		return noRoom(b.budget.limit)
	}
	b.sender = sender
	return nil
}

// Bytes are the body, until Release.
func (b *Body) Bytes() []byte { return b.bytes }

// Turn waits for one of the few places where large bodies are decoded, and returns what gives it up. A small body
// needs none.
func (b *Body) Turn() (done func()) {
	if b.taken == 0 {
		return func() {}
	}
	b.budget.decoding <- struct{}{}
	return func() { <-b.budget.decoding }
}

// Release gives the memory back. It may be called again.
func (b *Body) Release() {
	b.budget.giveBack(b.sender, b.taken)
	b.freeFirst()
	b.taken, b.bytes, b.at = 0, nil, 0
}

// Read is for code that takes the body as any request's.
func (b *Body) Read(p []byte) (n int, err error) {
	if b.at >= len(b.bytes) {
		return 0, io.EOF
	}
	n = copy(p, b.bytes[b.at:])
	b.at += n
	return n, nil
}

// Close does nothing: Release does.
func (b *Body) Close() error { return nil }
