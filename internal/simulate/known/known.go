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
	4:  {[]int{10}, "a batch that is too slow for the database is repeated whole for ever"},
	6:  {[]int{6}, "unfinished bodies fill the memory"},
	7:  {[]int{6}, "with the database away the whole window is fetched and held, and stored hours later as if fresh"},
	8:  {[]int{6}, "--pool-window does not bound the callbacks in memory"},
	12: {[]int{2, 12}, "an outage that fewer than ten ids see makes dead letters"},
	13: {[]int{10, 12}, "nothing limits the load on the source"},
	17: {[]int{10}, "the loop spins when workers are lowered below what is in flight while the breaker is open"},
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
