// Package known lists what is known to be wrong with the service, so that a test may show a defect before
// it is mended.
package known

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// Defect is something that is wrong.
type Defect struct {
	Promises []int // of DESIGN.md, that it breaks
	About    string
}

// Defects by number. Each has a least scenario in internal/simulate, or a test that calls Expect. They are
// red for as long as the defect is on this list, and a run fails when one of them is not. Random runs stay
// clear of the hazards meanwhile. Whoever mends a defect takes it off the list.
var defects = map[int]Defect{
	1:  {[]int{10}, "one failing statfs refuses every callback until a restart"},
	2:  {[]int{9, 10}, "an I/O error of the checkpoint, or a disk that stays full, ends the process"},
	3:  {[]int{10}, "throttled ids that hold half of the window delay another sender's retry for an hour"},
	4:  {[]int{10}, "a batch that is too slow for the database is repeated whole for ever"},
	5:  {[]int{10}, "reads that wait starve the writer and the expirer on PostgreSQL"},
	6:  {[]int{6}, "unfinished bodies fill the memory"},
	7:  {[]int{6}, "with the database away the whole window is fetched and held, and stored hours later as if fresh"},
	8:  {[]int{6}, "--pool-window does not bound the callbacks in memory"},
	9:  {[]int{10}, "a flood of one sender delays another's single id"},
	10: {[]int{10}, "a checkpoint waits for a reader, and appends wait for the checkpoint"},
	11: {[]int{8, 10}, "a disk that hangs leaves /readyz at 200, and SIGTERM never ends"},
	12: {[]int{2, 12}, "an outage that fewer than ten ids see makes dead letters"},
	13: {[]int{10, 12}, "nothing limits the load on the source"},
	14: {[]int{4}, "after a step back of the wall clock newer answers are dropped"},
	15: {[]int{1}, "idempotency keys written while the clock was ahead evict every new key"},
	16: {[]int{1, 2}, "the directory entry of the WAL is never synced"},
	17: {[]int{10}, "the loop spins when workers are lowered below what is in flight while the breaker is open"},
	18: {[]int{9}, "a deferred callback reports no age"},
	19: {[]int{5}, "SQLite reads take the time before they wait for a connection"},
	20: {[]int{2, 9, 11}, "flipped bits are not noticed"},
	21: {[]int{10}, "one sender's flood fills the inbox for everybody"},
	22: {[]int{10}, "a connection that answers read-only (SQLSTATE 25006) is kept"},
	24: {[]int{10}, "a migration locks the receipts for all replicas"},
	25: {[]int{2, 3}, "an inbox and a symbolic link to its file have two locks"},
}

// Has reports whether a defect is on the list.
func Has(number int) bool {
	_, ok := defects[number]
	return ok
}

// Numbers are those on the list.
func Numbers() []int { return slices.Sorted(maps.Keys(defects)) }

// Breaks reports whether a defect on the list breaks a promise.
func Breaks(number, promise int) bool { return slices.Contains(defects[number].Promises, promise) }

// Expect is the end of a test that shows a defect: err says what is wrong, and must do so for as long as
// the defect is on the list, and no longer.
func Expect(t testing.TB, number int, err error) {
	t.Helper()
	switch {
	case Has(number) && err == nil:
		t.Errorf("defect %d (%s) does not show any more: take it off the list in package known", number, defects[number].About)
	case Has(number):
		text, _, _ := strings.Cut(err.Error(), "\n") // without the stacks of a panic
		t.Logf("defect %d is known: %s", number, text)
	case err != nil:
		t.Errorf("defect %d is back: %v", number, err)
	}
}
