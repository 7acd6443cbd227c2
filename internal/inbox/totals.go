package inbox

import (
	"encoding/binary"
	"errors"

	"github.com/ncruces/go-sqlite3"
)

// account is what waits of one sender.
type account struct {
	callbacks, ids, bytes int64
	changed               bool // since it was stored
}

// state is the one row of the table state.
type state struct {
	last                  int64 // seq that was given
	clock                 int64 // of the inbox at the last commit: it never runs back, over a restart neither
	callbacks, ids, bytes int64 // waiting
	deferred              int64 // rows of that table
	keys, keyBytes        int64
	senders               int64 // with callbacks that wait
	setAside              int64
	probes                int64
}

func (s *state) fields() []*int64 {
	return []*int64{
		&s.last, &s.clock, &s.callbacks, &s.ids, &s.bytes, &s.deferred, &s.keys, &s.keyBytes, &s.senders, &s.setAside, &s.probes,
	}
}

// maxAccounts bounds the senders in memory. Those of others are read when they are needed.
const maxAccounts = 1 << 14

// totals are the sums that the file keeps of itself: in memory, and written with each commit. They are the committer's.
type totals struct {
	state    state
	accounts map[string]*account
	changed  []string // senders whose accounts did, since they were stored
	// wrong is set when sums are known not to hold: a damaged row says neither whose it is nor how many ids it has. They are counted again.
	wrong bool

	get, put, remove, removeAll, putState *sqlite3.Stmt
}

func newTotals(statement func(string) *sqlite3.Stmt) *totals {
	return &totals{
		accounts:  map[string]*account{},
		get:       statement(`SELECT record FROM senders WHERE sender = ?`),
		put:       statement(`INSERT OR REPLACE INTO senders (sender, record) VALUES (?, ?)`),
		remove:    statement(`DELETE FROM senders WHERE sender = ?`),
		removeAll: statement(`DELETE FROM senders`),
		putState:  statement(`INSERT OR REPLACE INTO state (one, record) VALUES (1, ?)`),
	}
}

// sum makes the record of some numbers: a checksum, then varints.
func sum(table, text string, numbers ...*int64) []byte {
	b := make([]byte, 4, 4+5*len(numbers))
	for _, n := range numbers {
		b = binary.AppendVarint(b, *n)
	}
	binary.BigEndian.PutUint32(b, checksum(table, 1, text, 0, b[4:]))
	return b
}

// unsum is its inverse. It reports whether the checksum holds.
func unsum(record []byte, table, text string, numbers ...*int64) bool {
	if len(record) < 4 || binary.BigEndian.Uint32(record) != checksum(table, 1, text, 0, record[4:]) {
		return false
	}
	rest := record[4:]
	for _, n := range numbers {
		v, size := binary.Varint(rest)
		if size <= 0 {
			return false
		}
		*n, rest = v, rest[size:]
	}
	return len(rest) == 0
}

// load reads the state. What fails its checksum is counted again.
func (f *file) load() error {
	s, _, err := f.db.Prepare(`SELECT record FROM state`)
	if err != nil {
		return err
	}
	ok := s.Step() && unsum(s.ColumnRawBlob(0), tableState, "", f.totals.state.fields()...)
	if err := s.Close(); err != nil {
		return err
	}
	if ok {
		return nil
	}
	return f.recount()
}

// of returns the account of a sender.
func (t *totals) of(sender string) (*account, error) {
	if a, ok := t.accounts[sender]; ok {
		return a, nil
	}
	if err := t.get.BindText(1, sender); err != nil {
		return nil, err
	}
	a := &account{}
	if t.get.Step() && !unsum(t.get.ColumnRawBlob(0), tableSenders, sender, &a.callbacks, &a.ids, &a.bytes) {
		*a, t.wrong = account{}, true
	}
	if err := t.get.Reset(); err != nil {
		return nil, err
	}
	t.accounts[sender] = a
	return a, nil
}

// move moves the sums. Those of damaged rows may be too small already, and are counted again.
func (t *totals) move(sender string, callbacks, ids, bytes int64) error {
	t.state.callbacks, t.state.ids, t.state.bytes = t.state.callbacks+callbacks, t.state.ids+ids, t.state.bytes+bytes
	a, err := t.of(sender)
	if err != nil {
		return err
	}
	if a.callbacks == 0 && callbacks > 0 {
		t.state.senders++
	}
	a.callbacks, a.ids, a.bytes = a.callbacks+callbacks, a.ids+ids, a.bytes+bytes
	if a.callbacks == 0 && callbacks < 0 {
		t.state.senders--
	}
	if !a.changed {
		a.changed, t.changed = true, append(t.changed, sender)
	}
	return nil
}

// store writes what changed, in the transaction that is open. After an error the file is opened again, and all of this read from it.
func (t *totals) store() error {
	for _, sender := range t.changed {
		a := t.accounts[sender]
		a.changed = false
		if err := t.storeAccount(sender, a); err != nil {
			return err
		}
	}
	t.changed = t.changed[:0]
	if len(t.accounts) > maxAccounts {
		clear(t.accounts)
	}
	return errors.Join(t.putState.BindBlob(1, sum(tableState, "", t.state.fields()...)), t.putState.Exec())
}

func (t *totals) storeAccount(sender string, a *account) error {
	if a.callbacks <= 0 {
		delete(t.accounts, sender)
		return errors.Join(t.remove.BindText(1, sender), t.remove.Exec())
	}
	record := sum(tableSenders, sender, &a.callbacks, &a.ids, &a.bytes)
	return errors.Join(t.put.BindText(1, sender), t.put.BindBlob(2, record), t.put.Exec())
}

// replace puts counted sums in the place of all that was written down, in the transaction that is open.
func (t *totals) replace(sum account, accounts map[string]account) error {
	t.wrong = false
	t.state.callbacks, t.state.ids, t.state.bytes, t.state.senders = sum.callbacks, sum.ids, sum.bytes, int64(len(accounts))
	clear(t.accounts)
	t.changed = t.changed[:0]
	if err := t.removeAll.Exec(); err != nil {
		return err
	}
	for sender, a := range accounts {
		if err := t.storeAccount(sender, &a); err != nil {
			return err
		}
	}
	return nil
}
