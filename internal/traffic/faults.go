package traffic

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Duration is a time.Duration that reads and writes as text ("300ms"), in JSON too.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Faults is how the simulated source behaves. The rates are shares of all requests, 0 to 1; together at most 1.
// It is the body of GET and PUT /control, and `source` in a scenario.
type Faults struct {
	LatencyMin Duration `json:"latency_min"`
	LatencyMax Duration `json:"latency_max"`
	// LatencyP99 is the 99th percentile: two requests in a hundred are drawn from a tail around it. 0: no tail.
	LatencyP99 Duration `json:"latency_p99"`
	// FailRate answers 500 after the latency.
	FailRate float64 `json:"fail_rate"`
	// ThrottleRate answers 429 with Retry-After at once, as rate limiters do.
	ThrottleRate float64 `json:"throttle_rate"`
	// HangRate never answers: the request is held until the client leaves or the simulator stops.
	HangRate float64 `json:"hang_rate"`
	// MissingRate answers 404 after the latency.
	MissingRate float64 `json:"missing_rate"`
	// GarbageRate answers 200 with broken JSON or with another id than the one asked for, in turn by chance.
	GarbageRate float64 `json:"garbage_rate"`
	// Online is the share of objects that are online; nil: the even ids.
	Online *float64 `json:"online"`
}

// Validate says in one line what is wrong, or nil.
func (f Faults) Validate() error {
	sum := 0.0
	for _, r := range []struct {
		name string
		rate float64
	}{
		{"fail", f.FailRate}, {"throttle", f.ThrottleRate}, {"hang", f.HangRate}, {"missing", f.MissingRate}, {"garbage", f.GarbageRate},
	} {
		// The negated form refuses NaN too.
		if !(r.rate >= 0 && r.rate <= 1) {
			return fmt.Errorf("the %s rate is a share from 0 to 1, not %v", r.name, r.rate)
		}
		sum += r.rate
	}
	// Ten shares of 0.1 are a hair more than 1 in floating point.
	const hair = 1e-9
	switch {
	case sum > 1+hair:
		return fmt.Errorf("the rates of faults are shares of the same requests: together %v is more than 1", sum)
	case f.Online != nil && !(*f.Online >= 0 && *f.Online <= 1):
		return fmt.Errorf("online is a share from 0 to 1, not %v", *f.Online)
	case f.LatencyMin < 0 || f.LatencyMax < f.LatencyMin:
		return errors.New("latencies must satisfy 0 <= latency-min <= latency-max")
	case f.LatencyP99 != 0 && f.LatencyP99 < f.LatencyMax:
		return errors.New("latency-p99 is 0 (no tail) or at least latency-max")
	}
	return nil
}

// Patch returns f changed by what a JSON document names; what it does not name stays. `"online":null` goes back to
// even ids. Unknown names and impossible values are errors, and then nothing is changed.
func (f Faults) Patch(doc []byte) (Faults, error) {
	// Decoding writes through a pointer that is already set, and the old value may be in use.
	if f.Online != nil {
		share := *f.Online
		f.Online = &share
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Faults{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Faults{}, errors.New("more than one JSON value")
	}
	return f, f.Validate()
}

type answer int

const (
	answerObject answer = iota
	answerFail
	answerThrottle
	answerHang
	answerMissing
	answerGarbage
)

// draw decides the fate of one request. math/rand/v2's top-level functions are safe for concurrent use and do not
// contend on a lock.
func (f *Faults) draw() answer {
	u := rand.Float64()
	for _, fate := range [...]struct {
		rate float64
		kind answer
	}{
		{f.HangRate, answerHang},
		{f.ThrottleRate, answerThrottle},
		{f.FailRate, answerFail},
		{f.MissingRate, answerMissing},
		{f.GarbageRate, answerGarbage},
	} {
		if u < fate.rate {
			return fate.kind
		}
		u -= fate.rate
	}
	return answerObject
}

// latency draws how long one request takes. The tail is uniform from LatencyMax to as far beyond LatencyP99 again, and
// takes two requests in a hundred, so that one in a hundred is slower than LatencyP99: what its name says.
func (f *Faults) latency() time.Duration {
	if f.LatencyP99 > 0 && rand.Float64() < 0.02 {
		return between(time.Duration(f.LatencyMax), time.Duration(2*f.LatencyP99-f.LatencyMax))
	}
	return between(time.Duration(f.LatencyMin), time.Duration(f.LatencyMax))
}

func between(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + rand.N(to-from+1)
}

func (f *Faults) online(id int64) bool {
	if f.Online == nil {
		return id%2 == 0
	}
	return rand.Float64() < *f.Online
}
