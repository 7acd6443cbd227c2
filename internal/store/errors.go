package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

const retryAfter = time.Second

// unavailable is what a reader gets for any failure of the database: whatever it is, it is not the reader's fault. One that has a code
// already keeps it.
func unavailable(err error) error {
	var coded *callback.Error
	if errors.As(err, &coded) {
		return coded
	}
	return &callback.Error{
		Code: callback.Unavailable, Detail: "the database does not answer: try again later", RetryAfter: retryAfter,
		Err: fmt.Errorf("reading the database: %w", err),
	}
}

// Some of PostgreSQL's SQLSTATE codes.
const (
	readOnlyTransaction = "25006" // of a standby, for one
	queryCanceled       = "57014" // mostly by statement_timeout
)

// saveError marks an error of a write with what it means for the batch, where it means something; see package callback. An outage is marked
// already, see Down.
func saveError(err error) error {
	if err == nil || errors.Is(err, callback.ErrDatabaseDown) {
		return err
	}
	if mark := meaning(err); mark != nil {
		return fmt.Errorf("%w: %w", mark, err)
	}
	return err
}

// meaning goes by SQLSTATE classes. Data is refused for a value that is out of range or not encodable (22), that breaks a constraint (23), or
// that is too large or too deep (54). Nothing is meant by what the server says of itself: a connection (08), a transaction (25, 40), a user (28),
// rights and tables (42), resources such as a full disk (53), locks (55), an operator (57), the system (58) or a fault (XX). All else, such as an
// exception that a trigger raises, may be about the data.
func meaning(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if pg.Code == queryCanceled {
			return callback.ErrTooSlow
		}
		switch pg.Code[:min(2, len(pg.Code))] {
		case "22", "23", "54":
			return callback.ErrRefused
		case "08", "25", "28", "40", "42", "53", "55", "57", "58", "XX":
			return nil
		}
		return callback.ErrDoubtful
	}
	var lite sqlite3.ErrorCode // an error without more to say is the bare code
	if errors.As(err, &lite) {
		switch lite {
		case sqlite3.CONSTRAINT, sqlite3.TOOBIG, sqlite3.MISMATCH:
			return callback.ErrRefused
		case sqlite3.ERROR: // too deep, as PostgreSQL's 54001, or not JSON; SQLite has no code of its own for it
			if strings.Contains(err.Error(), "malformed JSON") {
				return callback.ErrRefused
			}
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return callback.ErrTooSlow
	}
	return nil
}
