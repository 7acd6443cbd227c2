package simulate

import (
	"testing"
	"testing/synctest"
	"time"
)

// A deadline may be changed at the very moment at which it passes.
func TestDeadlineAtItsMoment(t *testing.T) {
	for range 1000 {
		synctest.Test(t, func(t *testing.T) {
			d := newDeadline()
			d.set(time.Now().Add(time.Second))
			time.Sleep(time.Second)
			d.set(time.Now())
			select {
			case <-d.passed():
			default:
				t.Error("a deadline that is now has not passed")
			}
			d.set(time.Time{})
			select {
			case <-d.passed():
				t.Error("no deadline has passed")
			default:
			}
		})
	}
}
