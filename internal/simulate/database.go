package simulate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/store"
)

// databaseTimeout is the time limit that the store sets for a write.
const databaseTimeout = 10 * time.Second

// Database is the embedded database, and between it and the stages the trouble that a server makes. It
// stands at the store's interface and not at the driver's, because database/sql holds a mutex while a
// driver works: simulated time stands still for those who wait for a mutex.
type Database struct {
	*store.Store
	life  *Life
	since time.Duration
}

var (
	errConnection = errors.New("simulated: the connection to the database is lost")
	errReadOnly   = errors.New("simulated: cannot execute INSERT in a read-only transaction (SQLSTATE 25006)")
)

// trouble fails as the database does now, if it does.
func (d *Database) trouble(ctx context.Context) error {
	f := d.life.world.faults
	if d.life.mount.dead.Load() || f.active(DatabaseDown) != nil {
		return errConnection
	}
	if p := f.active(DatabaseHangs); p != nil {
		return d.spend(ctx, min(databaseTimeout, p.At+p.For-f.now()))
	}
	return nil
}

// spend lets time pass, and fails when that was the whole time limit, or when ctx or the life ended.
func (d *Database) spend(ctx context.Context, took time.Duration) error {
	limit, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	select {
	case <-time.After(took):
		return limit.Err()
	case <-limit.Done():
		return limit.Err()
	case <-d.life.mount.death:
		return errConnection
	}
}

// Save is the store's, with trouble.
func (d *Database) Save(ctx context.Context, b callback.Batch) error {
	f := d.life.world.faults
	if err := d.trouble(ctx); err != nil {
		return err
	}
	if f.active(DatabaseReadOnly) != nil {
		return errReadOnly
	}
	for _, o := range b.Objects {
		if d.life.world.plan.Traits[o.ID] == Poison {
			return fmt.Errorf("%w: simulated: unsupported Unicode escape sequence (SQLSTATE 22P05)", callback.ErrRefused)
		}
	}
	rows := len(b.Objects) + len(b.DeadLetters) + len(b.Receipts)
	took := 200*time.Microsecond + time.Duration(rows)*20*time.Microsecond
	if p := f.active(DatabaseSlow); p != nil {
		took = time.Duration(rows) * p.Took
	}
	if err := d.spend(ctx, took); err != nil {
		return err
	}
	if err := d.Store.Save(ctx, b); err != nil {
		return err
	}
	if f.active(DatabaseForgets) != nil {
		return errConnection
	}
	return nil
}

// NextExpiry is the store's, with trouble.
func (d *Database) NextExpiry(ctx context.Context) (time.Duration, bool, error) {
	if err := d.trouble(ctx); err != nil {
		return 0, false, err
	}
	return d.Store.NextExpiry(ctx)
}

// DeleteExpired is the store's, with trouble.
func (d *Database) DeleteExpired(ctx context.Context, limit int) ([]callback.Expired, error) {
	if err := d.trouble(ctx); err != nil {
		return nil, err
	}
	if d.life.world.faults.active(DatabaseReadOnly) != nil {
		return nil, errReadOnly
	}
	return d.Store.DeleteExpired(ctx, limit)
}

// answerTime is how long the database takes for a read, so that something can happen meanwhile.
const answerTime = 20 * time.Millisecond

// reading fails as a read does now, if it does.
func (d *Database) reading(ctx context.Context) error {
	err := d.trouble(ctx)
	if err == nil {
		err = d.spend(ctx, answerTime)
	}
	if err != nil {
		return &callback.Error{Code: callback.Unavailable, Detail: "simulated", RetryAfter: time.Second, Err: err}
	}
	return nil
}

// Object is the store's, with trouble.
func (d *Database) Object(ctx context.Context, id int64) (callback.Object, error) {
	if err := d.reading(ctx); err != nil {
		return callback.Object{}, err
	}
	return d.Store.Object(ctx, id)
}

// Objects is the store's, with trouble.
func (d *Database) Objects(ctx context.Context, q callback.ObjectQuery) ([]callback.Object, error) {
	if err := d.reading(ctx); err != nil {
		return nil, err
	}
	return d.Store.Objects(ctx, q)
}

// Receipt is the store's, with trouble. It reads first and answers later.
func (d *Database) Receipt(ctx context.Context, callbackID string) (callback.Receipt, error) {
	r, err := d.Store.Receipt(ctx, callbackID)
	if err := d.reading(ctx); err != nil {
		return callback.Receipt{}, err
	}
	return r, err
}

// Receipts is the store's, with trouble.
func (d *Database) Receipts(ctx context.Context, q callback.ReceiptQuery) ([]callback.Receipt, error) {
	found, err := d.Store.Receipts(ctx, q)
	if err := d.reading(ctx); err != nil {
		return nil, err
	}
	return found, err
}

// DeadLetters is the store's, with trouble.
func (d *Database) DeadLetters(ctx context.Context, q callback.DeadLetterQuery) ([]callback.DeadLetter, error) {
	if err := d.reading(ctx); err != nil {
		return nil, err
	}
	return d.Store.DeadLetters(ctx, q)
}
