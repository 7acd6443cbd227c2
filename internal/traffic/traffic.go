// Package traffic is what client-service is made of: a simulator of the object source, a generator of callbacks,
// and a judge that says whether what the callback service acknowledged was honoured.
//
// It knows the service only by its HTTP contract and imports nothing else of this module: a judge that shared code
// with the judged would share its mistakes.
//
// The way of one callback: the schedule says when, the sender posts it (and repeats it like a good sender), the judge keeps
// what was acknowledged until it has compared it with what reached the source and with its receipt. From those the sampler
// takes a few objects and watches them disappear. The report is the sum.
package traffic

import "time"

// epoch is the zero of all times that are compared with each other: when a POST was sent, when a fetch arrived. They are
// durations on the monotonic clock, so that a step of the wall clock cannot turn a verdict.
type epoch struct{ start time.Time }

func newEpoch() epoch { return epoch{start: time.Now()} }

func (e epoch) now() time.Duration { return time.Since(e.start) }
