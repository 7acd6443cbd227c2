// Package store keeps objects, receipts and dead letters in PostgreSQL or SQLite, through gorm.
//
// Statements are written out in SQL: gorm takes a zero key for "unset", and a batch that travels as one JSON parameter has no limit of rows.
// Of PostgreSQL the database's clock decides what has expired, for writing, reading and deleting; of SQLite one of the store's own, see clock.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"callback-service/internal/disk"
)

// Every query ends by itself: a database that hangs must not hold the pipeline, nor a request.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 10 * time.Second
)

// Options are what a Store needs besides its URL.
type Options struct {
	ObjectTTL  time.Duration    // how long an object is kept after it was last stored; above zero
	ReceiptTTL time.Duration    // how long a receipt is kept after it was written; 0: no receipts are written
	Logger     *slog.Logger     // nil: nothing is logged
	Now        func() time.Time // the wall clock; nil: time.Now
	Disk       disk.Disk        // that the file of SQLite lies on
	// OnDamaged is called when the file of SQLite was found damaged and is about to be moved aside, OnSalvaged with the number of rows that
	// came back from such a file, each time some do. nil: nobody is told.
	OnDamaged  func()
	OnSalvaged func(rows int)
}

// Store is the database. Its methods may be called from any goroutine.
type Store struct {
	dialect
	migrate    func(context.Context, *handles) error
	address    string // for people: where the database is
	log        *slog.Logger
	objectTTL  atomic.Int64 // time.Duration
	receiptTTL time.Duration
	url        string                         // what Open was given
	config     atomic.Pointer[pgx.ConnConfig] // of PostgreSQL's next connection
	wall       func() time.Time
	clock      *clock
	file       *file        // of SQLite
	readers    atomic.Int64 // requests that read or wait for it

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup // replacing and salvaging; Close waits for them

	mu       sync.Mutex
	current  *handles
	replaced chan struct{} // closed when the file has been replaced, or trouble has changed; nil while it is not being replaced
	trouble  error         // why that takes more than one try
}

// dialect is the SQL in which the two databases differ. Parameters go by name, so that each takes those it needs: see Store.named.
type dialect struct {
	embedded        bool
	now             string // the clock that decides, as an SQL expression
	time            string // asks for the time of the database's clock, in microseconds; empty where it has none
	saveObjects     string
	insertReceipts  string // without what becomes of a conflict
	saveDeadLetters string
	nextExpiry      string // microseconds, negative when overdue
	deleteExpired   string // returns the id of each row, and its lag in microseconds
	deleteReceipts  string
	names           string // the parameter of that name, a JSON array of strings, as rows
	since           string // the parameter of that name, microseconds, as a time
	// deleteDeadLetters deletes by key and time of the failure.
	deleteDeadLetters string
}

// Open opens the database of a URL: postgres://user:password@host:5432/name or sqlite:path.
// It does not connect to PostgreSQL. The file of SQLite, and its folder, are made when they are missing; an error names the path.
// No error shows a password.
func Open(url string, o Options) (*Store, error) {
	if o.ObjectTTL <= 0 {
		return nil, fmt.Errorf("the object TTL must be above zero, not %v", o.ObjectTTL)
	}
	s := &Store{receiptTTL: o.ReceiptTTL, log: o.Logger, url: url, wall: o.Now}
	if s.wall == nil {
		s.wall = time.Now
	}
	s.clock = newClock(s.wall())
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.SetObjectTTL(o.ObjectTTL)
	scheme, path, _ := strings.Cut(url, ":")
	var err error
	switch scheme {
	case "postgres", "postgresql":
		err = s.openPostgres(url)
	case "sqlite":
		err = s.openSQLite(path, o)
	default:
		err = errors.New("--database-url: want postgres://user:password@host:5432/name or sqlite:path")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close closes every connection. Calls in progress fail.
func (s *Store) Close() error {
	s.mu.Lock() // nothing begins after this
	s.stop()
	s.mu.Unlock()
	s.work.Wait()
	if s.current == nil {
		return nil
	}
	return s.current.Close()
}

// Ping asks whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := s.query(ctx, asking, func(*sql.Rows) error { return nil }, `SELECT 1`); err != nil {
		return fmt.Errorf("asking the database: %w", err)
	}
	return nil
}

// Check asks whether the database answers, and whether its user may make the tables where they are
// missing.
func (s *Store) Check(ctx context.Context) error {
	if err := s.Ping(ctx); err != nil || s.embedded {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var may bool
	err := s.query(ctx, asking, func(rows *sql.Rows) error { return rows.Scan(&may) }, `
SELECT to_regclass('`+migrationTable+`') IS NOT NULL OR coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)`)
	if err == nil && !may {
		err = errors.New("its user may not make the tables: grant it CREATE on the schema")
	}
	return err
}

// SetObjectTTL changes the TTL of what is stored from now on. What is stored already keeps its time.
func (s *Store) SetObjectTTL(d time.Duration) { s.objectTTL.Store(int64(d)) }

// gormConfig: gorm must not connect before it is asked to, must not wrap each statement in a transaction, and must not log, for its log
// shows the values. Errors are logged by those who get them.
func gormConfig() *gorm.Config {
	return &gorm.Config{DisableAutomaticPing: true, SkipDefaultTransaction: true, Logger: logger.Discard}
}

// named adds to args what every statement may ask for: times by the store's clock, and durations, in microseconds.
func (s *Store) named(args ...any) []any {
	return append(args,
		sql.Named("now", s.clock.now()),
		sql.Named("object_ttl", time.Duration(s.objectTTL.Load()).Microseconds()),
		sql.Named("receipt_ttl", s.receiptTTL.Microseconds()))
}
