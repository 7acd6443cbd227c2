package traffic

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script answers POSTs without a network: the n-th attempt gets the n-th step, those after the last the last.
type script struct {
	steps  []step
	bodies []string
	keys   []string
	times  []time.Time
}

type step struct {
	status     int // 0: the connection fails
	retryAfter string
	location   string
	body       string
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	now := s.steps[min(len(s.bodies), len(s.steps)-1)]
	s.bodies, s.times = append(s.bodies, string(body)), append(s.times, time.Now())
	s.keys = append(s.keys, r.Header.Get("Idempotency-Key"))
	if now.status == 0 {
		return nil, errors.New("connection refused")
	}
	h := http.Header{}
	h.Set("Retry-After", now.retryAfter)
	h.Set("Location", now.location)
	return &http.Response{StatusCode: now.status, Header: h, Body: io.NopCloser(strings.NewReader(now.body)), Request: r}, nil
}

func (s *script) gaps() (out []time.Duration) {
	for i := 1; i < len(s.times); i++ {
		out = append(out, s.times[i].Sub(s.times[i-1]))
	}
	return out
}

func senderFor(s *script) *sender {
	return &sender{
		client: &http.Client{Transport: s}, url: "http://service/callback", timeout: time.Minute,
		retryFor: 5 * time.Minute, epoch: newEpoch(), tally: newTally(),
	}
}

func TestSenderRepeats(t *testing.T) {
	for name, c := range map[string]struct {
		steps    []step
		attempts int
		ok       bool
		min, max time.Duration // of the first wait
	}{
		"202":                 {[]step{{status: 202}}, 1, true, 0, 0},
		"any 2xx":             {[]step{{status: 299, body: "what"}}, 1, true, 0, 0},
		"503 with seconds":    {[]step{{status: 503, retryAfter: "7"}, {status: 202}}, 2, true, 7 * time.Second, 7100 * time.Millisecond},
		"429 with seconds":    {[]step{{status: 429, retryAfter: "2"}, {status: 200}}, 2, true, 2 * time.Second, 2100 * time.Millisecond},
		"503 with a date":     {[]step{{status: 503, retryAfter: "Sat, 01 Jan 2000 00:00:09 GMT"}, {status: 202}}, 2, true, 9 * time.Second, 9100 * time.Millisecond},
		"a date that passed":  {[]step{{status: 503, retryAfter: "Sat, 01 Jan 1999 00:00:09 GMT"}, {status: 202}}, 2, true, 0, backoffFirst + time.Millisecond},
		"an absurd wait":      {[]step{{status: 503, retryAfter: "86400"}, {status: 202}}, 2, true, retryAfterMax, retryAfterMax + backoffFirst},
		"503 without a word":  {[]step{{status: 503}, {status: 202}}, 2, true, 0, backoffFirst + time.Millisecond},
		"503 with nonsense":   {[]step{{status: 503, retryAfter: "soon"}, {status: 202}}, 2, true, 0, backoffFirst + time.Millisecond},
		"connection failed":   {[]step{{}, {status: 202}}, 2, true, 0, backoffFirst + time.Millisecond},
		"a proxy in trouble":  {[]step{{status: 502}, {status: 504}, {status: 202}}, 3, true, 0, backoffFirst + time.Millisecond},
		"422 is final":        {[]step{{status: 422}, {status: 202}}, 1, false, 0, 0},
		"500 is final":        {[]step{{status: 500}, {status: 202}}, 1, false, 0, 0},
		"a redirect is final": {[]step{{status: 307, location: "http://elsewhere/"}, {status: 202}}, 1, false, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // begins at midnight UTC, 2000-01-01
				s := &script{steps: c.steps}
				sender := senderFor(s)
				sender.client.CheckRedirect = newClient(Config{}).CheckRedirect
				a := sender.post(context.Background(), []byte("the body"))
				if a.ok != c.ok || a.attempts != c.attempts || len(s.bodies) != c.attempts {
					t.Errorf("acknowledged %t after %d attempts (%d seen), want %t after %d", a.ok, a.attempts, len(s.bodies), c.ok, c.attempts)
				}
				if slices.ContainsFunc(s.bodies, func(b string) bool { return b != "the body" }) {
					t.Errorf("bodies %q", s.bodies)
				}
				if gaps := s.gaps(); len(gaps) > 0 && (gaps[0] < c.min || gaps[0] > c.max) {
					t.Errorf("waited %v, want %v to %v", gaps[0], c.min, c.max)
				}
				if a.ok && a.sent != s.times[len(s.times)-1].Sub(sender.epoch.start) {
					t.Errorf("sent at %v: the attempt that was acknowledged counts", a.sent)
				}
			})
		})
	}
}

func TestSenderBackoffIsBoundedAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []step{{status: 503}}}
		sender := senderFor(s)
		began := time.Now()
		a := sender.post(context.Background(), nil)
		took := time.Since(began)
		if a.ok || a.status != 503 || took > sender.retryFor || took < sender.retryFor-backoffMax-time.Second {
			t.Errorf("gave up after %v with %+v", took, a)
		}
		for i, gap := range s.gaps() {
			if gap > backoffMax+time.Millisecond {
				t.Errorf("wait %d was %v", i, gap)
			}
		}
		if longest := slices.Max(s.gaps()); longest < backoffMax/2 {
			t.Errorf("the longest wait of %d was %v: it does not grow", len(s.gaps()), longest)
		}
		if got := sender.tally.byStatus()["503"]; got != uint64(a.attempts) {
			t.Errorf("counted %d of %d attempts", got, a.attempts)
		}
	})
}

func TestSenderStopsRepeatingWhenTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []step{{status: 503, retryAfter: "20"}}}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		began := time.Now()
		a := senderFor(s).post(ctx, nil)
		if took := time.Since(began); took != 3*time.Second || a.attempts != 1 || a.ok {
			t.Errorf("%+v after %v", a, took)
		}
	})
}

func TestCallbackID(t *testing.T) {
	for _, c := range []struct{ location, body, want string }{
		{"", `{"callback_id":"01A","objects":3}`, "01A"},
		{"/v1/callbacks/01B", `ok`, "01B"},
		{"/v1/callbacks/01B", `{"callback_id":"01A"}`, "01A"},
		{"http://host/v1/callbacks/01C", ``, "01C"},
		{"/somewhere/else", `{"callback_id":7}`, ""},
		{"", ``, ""},
	} {
		if got, _ := callbackID(c.location, []byte(c.body)); got != c.want {
			t.Errorf("%q %q: %q, want %q", c.location, c.body, got, c.want)
		}
	}
}
