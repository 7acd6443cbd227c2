package traffic

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// ask serves one request without a network and returns the answer.
func ask(s *Source, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestSourceAnswersObjects(t *testing.T) {
	s := NewSource(Faults{})
	for path, want := range map[string]int{
		"/objects/1": 200, "/objects/0": 200, "/objects/9223372036854775807": 200,
		"/objects/x": 400, "/objects/-1": 400, "/objects/9223372036854775808": 400, "/": 404,
	} {
		if got := ask(s, path).Code; got != want {
			t.Errorf("GET %s: %d, want %d", path, got, want)
		}
	}
	for id, online := range map[string]bool{"1": false, "2": true} {
		var obj struct {
			ID     json.Number
			Online *bool
		}
		if err := json.Unmarshal(ask(s, "/objects/"+id).Body.Bytes(), &obj); err != nil || obj.ID.String() != id || obj.Online == nil || *obj.Online != online {
			t.Errorf("object %s: %+v, %v", id, obj, err)
		}
	}
}

// classify names the fate of a request by what a client sees.
func classify(id string, w *httptest.ResponseRecorder) string {
	switch w.Code {
	case 500:
		return "fail"
	case 429:
		if w.Header().Get("Retry-After") == "" {
			return "429 without Retry-After"
		}
		return "throttle"
	case 404:
		return "missing"
	}
	var obj struct{ ID json.Number }
	if json.Unmarshal(w.Body.Bytes(), &obj) != nil {
		return "broken"
	}
	if obj.ID.String() != id {
		return "other id"
	}
	return "object"
}

func TestSourceFaultRates(t *testing.T) {
	const n = 20_000
	s := NewSource(Faults{FailRate: 0.1, ThrottleRate: 0.2, MissingRate: 0.05, GarbageRate: 0.3})
	got := map[string]int{}
	for range n {
		got[classify("8", ask(s, "/objects/8"))]++
	}
	want := map[string]float64{"fail": 0.1, "throttle": 0.2, "missing": 0.05, "broken": 0.15, "other id": 0.15, "object": 0.35}
	for k, share := range want {
		// Six standard deviations: once in half a thousand million runs.
		if off := math.Abs(float64(got[k]) - share*n); off > 6*math.Sqrt(n*share*(1-share)) {
			t.Errorf("%s: %d of %d, want a share of %v", k, got[k], n, share)
		}
		delete(got, k)
	}
	if len(got) > 0 {
		t.Errorf("also got %v", got)
	}
	totals := s.totals()
	if totals.Requests != n || totals.Objects+totals.Failed+totals.Throttled+totals.Missing+totals.Garbage != n {
		t.Errorf("totals do not add up: %+v", totals)
	}
}

func TestSourceOnlineShare(t *testing.T) {
	share := 0.25
	s := NewSource(Faults{Online: &share})
	online := 0
	for range 10_000 {
		if strings.Contains(ask(s, "/objects/3").Body.String(), `"online":true`) {
			online++
		}
	}
	if online < 2200 || online > 2800 {
		t.Errorf("%d of 10000 online, want about 2500", online)
	}
}

func TestSourceLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(Faults{LatencyMin: Duration(300 * time.Millisecond), LatencyMax: Duration(4 * time.Second), LatencyP99: Duration(6 * time.Second)})
		const n = 5000
		took := newHistogram()
		var slower int
		for range n {
			began := time.Now()
			ask(s, "/objects/2")
			d := time.Since(began)
			took.record(d)
			if d > 6*time.Second {
				slower++
			}
			if d < 300*time.Millisecond || d > 8*time.Second {
				t.Fatalf("took %v", d)
			}
		}
		if slower < n/200 || slower > n/50 {
			t.Errorf("%d of %d slower than the p99", slower, n)
		}
		if p50 := took.quantiles().P50; p50 < 1900 || p50 > 2500 {
			t.Errorf("median %v ms, want about 2150", p50)
		}
	})
}

func TestSourceCountsHitsAndTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(Faults{LatencyMin: Duration(time.Second), LatencyMax: Duration(time.Second)})
		ask(s, "/objects/7")
		ask(s, "/objects/7")
		if h := s.hits.get(7); h.count != 2 || h.arrived != time.Second || h.answered != time.Second || h.finished != 2*time.Second {
			t.Errorf("hits %+v", h)
		}
		s.SetFaults(Faults{FailRate: 1})
		ask(s, "/objects/7")
		if h := s.hits.get(7); h.count != 3 || h.arrived != 2*time.Second || h.answered != time.Second {
			t.Errorf("a failed answer is an arrival and no more: %+v", h)
		}
		if h := s.hits.get(8); h.count != 0 || h.arrived >= 0 {
			t.Errorf("never asked: %+v", h)
		}
	})
}

func TestHungRequestEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSource(Faults{HangRate: 1})
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/objects/2", nil))
		if got := s.totals(); got.Abandoned != 1 || got.Held != 0 || got.Objects != 0 {
			t.Errorf("totals %+v", got)
		}
	})
}

func TestControl(t *testing.T) {
	s := NewSource(Faults{FailRate: 0.1})
	do := func(method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		s.ControlHandler().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	if code, body := do("PUT", "/control", `{"latency_max":"2s","online":0.5}`); code != 200 || !strings.Contains(body, `"fail_rate":0.1`) {
		t.Errorf("%d %s", code, body)
	}
	before := s.Faults()
	if time.Duration(before.LatencyMax) != 2*time.Second || *before.Online != 0.5 || before.FailRate != 0.1 {
		t.Errorf("in force: %+v", before)
	}
	for _, bad := range []string{`{"fail_rate":2}`, `{"fail_rate":-1}`, `{"fial_rate":1}`, `{"hang_rate":0.95}`, `{"latency_min":"3s"}`, `{"online":7}`, `x`, `{}{}`, `{"latency_max":5}`} {
		if code, _ := do("PUT", "/control", bad); code != 400 {
			t.Errorf("PUT %s: %d, want 400", bad, code)
		}
	}
	if after := s.Faults(); after.FailRate != 0.1 || *after.Online != 0.5 {
		t.Errorf("a refused change changed something: %+v", after)
	}
	if code, _ := do("PUT", "/control", `{"online":null,"fail_rate":0,"missing_rate":1}`); code != 200 || s.Faults().Online != nil || *before.Online != 0.5 {
		t.Errorf("online: %v, and before %v", s.Faults().Online, *before.Online)
	}
	if got := ask(s, "/objects/5").Code; got != 404 {
		t.Errorf("after the change: %d", got)
	}
	if _, body := do("GET", "/hits/5", ""); strings.TrimSpace(body) != `{"hits":1,"id":5}` {
		t.Errorf("hits: %s", body)
	}
	if _, body := do("GET", "/control", ""); !strings.Contains(body, `"missing_rate":1`) {
		t.Errorf("control: %s", body)
	}
}

// Many requests are held at once over real connections, and all of them go at once when the server's base context ends.
func TestSourceHoldsManyAndStopsAtOnce(t *testing.T) {
	const n = 2500
	s := NewSource(Faults{HangRate: 1})
	base, stop := context.WithCancel(context.Background())
	srv := httptest.NewUnstartedServer(s.Handler())
	srv.Config.BaseContext = func(net.Listener) context.Context { return base }
	srv.Start()
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			resp, err := client.Get(srv.URL + "/objects/2")
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		})
	}
	for deadline := time.Now().Add(time.Minute); s.totals().Held < n && time.Now().Before(deadline); {
		sleep(base, time.Millisecond)
	}
	if held := s.totals().Held; held != n {
		t.Errorf("%d held, want %d", held, n)
	}
	began := time.Now()
	stop()
	wg.Wait()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v to let go", took)
	}
	if got := s.totals(); got.HeldMax != n || got.Held != 0 || got.Abandoned != n {
		t.Errorf("totals %+v", got)
	}
}
