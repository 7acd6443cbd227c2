package inbox

import (
	"context"

	"github.com/oklog/ulid/v2"

	"callback-service/internal/callback"
)

// pending is an append on its way through the committer.
type pending struct {
	row    row
	size   int64
	key    callback.Key
	result chan error // capacity 1: the committer never waits for a sender that has gone

	// What the committer found out about the key, to be read after a result of nil:
	first    string // the id of the callback that was accepted under it before
	conflict *callback.Error
}

// Append makes c durable: when it returns nil, c is on disk and fsynced. The inbox gives it its place and its id: the random end of the id
// stays as it was, and the beginning is the place, so that ids grow for the life of the file. It waits at most 5 seconds.
// Errors are *callback.Error: inbox_full means that nothing was stored; after unavailable it is unknown, and the sender repeats.
func (in *Inbox) Append(ctx context.Context, c *callback.Callback) error {
	_, err := in.submit(ctx, c, callback.Key{})
	return err
}

// AppendOnce is Append, but for a callback whose sender has posted the same body under the same key before: then nothing is stored, and first
// is the id that it got that time. The key becomes durable with the callback. The same key with another body is idempotency_conflict.
func (in *Inbox) AppendOnce(ctx context.Context, c *callback.Callback, key callback.Key) (first string, err error) {
	p, err := in.submit(ctx, c, key)
	if err != nil {
		return "", err
	}
	if p.conflict != nil {
		return "", p.conflict
	}
	return p.first, nil
}

// submit hands c to the committer and waits for its commit.
func (in *Inbox) submit(ctx context.Context, c *callback.Callback, key callback.Key) (*pending, error) {
	if refused := in.refusal(); refused != nil {
		return nil, refused
	}
	row, err := encode(c)
	if err != nil {
		return nil, err
	}
	p := &pending{row: row, key: key, result: make(chan error, 1)}
	p.size = min(row.size()+int64(len(key.Value)), QueueBytes)
	if err := in.wait(ctx, p); err != nil {
		return nil, err
	}
	if p.first == "" && p.conflict == nil {
		c.Seq, c.ID = p.row.seq, ulid.ULID(p.row.record[idAt:bodyAt]).String()
	}
	return p, nil
}

// wait has the committer take p.
func (in *Inbox) wait(ctx context.Context, p *pending) error {
	ctx, cancel := context.WithTimeout(ctx, appendWait)
	defer cancel()
	if err := in.budget.Acquire(ctx, p.size); err != nil {
		return unavailable("the inbox is behind; nothing was stored", err)
	}
	select {
	case in.appends <- p:
	case <-ctx.Done():
		in.budget.Release(p.size)
		return unavailable("the inbox is behind; nothing was stored", ctx.Err())
	case <-in.stop:
		in.budget.Release(p.size)
		return errClosing
	}
	select {
	case err := <-p.result:
		return err
	case <-ctx.Done():
		return unavailable("no answer from the disk in time; the callback may or may not be stored, repeat it", ctx.Err())
	case <-in.ended:
		select {
		case err := <-p.result:
			return err
		default:
			return errClosing
		}
	}
}
