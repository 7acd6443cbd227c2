package store

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/ncruces/go-sqlite3"

	"callback-service/internal/callback"
)

const retryAfter = time.Second

// unavailable is what a reader gets for any failure of the database: whatever it is, it is not the reader's fault.
func unavailable(err error) error {
	return &callback.Error{
		Code: callback.Unavailable, Detail: "the database does not answer: try again later", RetryAfter: retryAfter,
		Err: fmt.Errorf("reading the database: %w", err),
	}
}

func saveError(err error) error {
	if refused(err) {
		return fmt.Errorf("%w: %w", callback.ErrRefused, err)
	}
	return err
}

// refused reports whether the database will answer the same to the same data for ever: a value that is out of range or not encodable
// (SQLSTATE class 22), that breaks a constraint (23), or that is too large or too deep (54).
func refused(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:min(2, len(pg.Code))] {
		case "22", "23", "54":
			return true
		}
		return false
	}
	var lite *sqlite3.Error
	if errors.As(err, &lite) {
		switch lite.Code() {
		case sqlite3.CONSTRAINT, sqlite3.TOOBIG, sqlite3.MISMATCH:
			return true
		case sqlite3.ERROR: // too deep, as PostgreSQL's 54001, or not JSON; SQLite has no code of its own for it
			return strings.Contains(lite.Error(), "malformed JSON")
		}
	}
	return false
}
