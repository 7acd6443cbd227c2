package simulate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Kind is what goes wrong.
type Kind string

// The faults. Those of the disk, but for damage, may be aimed at an operation and a file.
const (
	DiskError Kind = "disk-error" // an operation fails with EIO
	DiskFull  Kind = "disk-full"  // writes fail with ENOSPC, and no space is reported
	DiskSlow  Kind = "disk-slow"  // a sync of the inbox takes Took
	DiskHang  Kind = "disk-hang"  // a sync of the inbox does not return before the fault ends
	ReadSlow  Kind = "read-slow"  // a read of the database takes Took
	FlipBits  Kind = "flip-bits"  // Count bits of File turn over
	TearPages Kind = "tear-pages" // some sectors of Count pages of File are as they were at an earlier time

	SourceRefuses   Kind = "source-refuses"   // connections are refused, and those that are open are reset
	SourceHangs     Kind = "source-hangs"     // requests are read and not answered
	SourceSilent    Kind = "source-silent"    // connections are half-open: nothing comes through, and no error
	SourceDrips     Kind = "source-drips"     // answers come a byte at a time, Took apart
	SourceFails     Kind = "source-fails"     // 500 to all
	SourceThrottles Kind = "source-throttles" // 429 to all, with a Retry-After of Took
	SourceGarbage   Kind = "source-garbage"   // answers that are not JSON

	DatabaseDown     Kind = "database-down"      // every call fails at once
	DatabaseHangs    Kind = "database-hangs"     // every call runs into its time limit
	DatabaseSlow     Kind = "database-slow"      // a save takes Took for each row of it
	DatabaseForgets  Kind = "database-forgets"   // the connection breaks after the commit, before the answer
	DatabaseReadOnly Kind = "database-read-only" // saves fail, reads work

	ClockJumps Kind = "clock-jumps" // the wall clock is off by Took from here on
)

// Fault is one thing that goes wrong for a while.
type Fault struct {
	Kind      Kind
	At, For   time.Duration // from the start of the run; For 0: an instant
	Operation string        `json:",omitempty"` // of the disk; empty: any
	File      string        `json:",omitempty"` // a part of the path, or its end when it ends in $; empty: any
	Once      bool          `json:",omitempty"` // only the first operation fails
	Took      time.Duration `json:",omitempty"`
	Count     int           `json:",omitempty"`
	From      int           `json:",omitempty"` // bytes of the file that stay whole
}

func (f Fault) String() string {
	s := fmt.Sprintf("%s at %v for %v", f.Kind, f.At, f.For)
	for _, detail := range []string{f.Operation, f.File} {
		if detail != "" {
			s += " " + detail
		}
	}
	if f.Once {
		s += " once"
	}
	if f.Took != 0 {
		s += " " + f.Took.String()
	}
	return s
}

// aims reports whether the fault is of a file.
func (f *Fault) aims(name string) bool {
	if end, ok := strings.CutSuffix(f.File, "$"); ok {
		return strings.HasSuffix(name, end)
	}
	return strings.Contains(name, f.File)
}

var (
	errIO      = errors.New("simulated: input/output error")
	errNoSpace = errors.New("simulated: no space left on device")
)

// faults tells the simulated parts what is wrong at the moment.
type faults struct {
	began  time.Time
	plan   []Fault
	events *events

	mu     sync.Mutex
	spent  map[int]bool // those of Once that have happened
	random *rand.Rand
}

// now is the time since the run began.
func (f *faults) now() time.Duration { return time.Since(f.began) }

// active returns the fault of a kind that is on, or nil.
func (f *faults) active(kind Kind) *Fault {
	now := f.now()
	for i := range f.plan {
		if p := &f.plan[i]; p.Kind == kind && now >= p.At && now < p.At+p.For {
			return p
		}
	}
	return nil
}

func (f *faults) disk(operation, name string) error {
	now := f.now()
	for i := range f.plan {
		p := &f.plan[i]
		if now < p.At || now >= p.At+p.For || !p.aims(name) {
			continue
		}
		switch {
		case p.Kind == DiskFull && (operation == "write" || operation == "create" || operation == "statfs"):
			return errNoSpace
		case p.Kind == DiskError && (p.Operation == "" || p.Operation == operation) && f.spend(i):
			f.events.add("disk", "%s of %s failed", operation, name)
			return errIO
		}
	}
	return nil
}

// spend reports whether the fault happens once more.
func (f *faults) spend(i int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan[i].Once && f.spent[i] {
		return false
	}
	f.spent[i] = true
	return true
}

// syncTime is how long a sync of a file takes.
func (f *faults) syncTime(name string) time.Duration {
	if !strings.HasPrefix(name, inboxFolder) {
		return 0
	}
	if p := f.active(DiskHang); p != nil {
		return p.At + p.For - f.now()
	}
	if p := f.active(DiskSlow); p != nil {
		return p.Took
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Duration(20_000 + f.random.IntN(200_000)) // nanoseconds
}
