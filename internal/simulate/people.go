package simulate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// patience is how long a sender waits before it tries again when nobody says how long.
const patience = 700 * time.Millisecond

// people starts everybody who has to do with the service.
func (w *World) people() {
	client := w.client()
	for i := range w.plan.Posts {
		w.actors.Go(func() { w.send(client, i) })
	}
	w.actors.Go(func() { // one operator, who does one thing after the other
		for _, c := range w.plan.Changes {
			w.change(client, c)
		}
	})
	for i := range w.plan.Readers {
		w.actors.Go(func() { w.readOn(client, i) })
	}
	for range w.plan.Watchers {
		w.actors.Go(w.watch)
	}
	for i := range w.plan.Stalled {
		w.actors.Go(func() {
			w.dawdle(i, publicAddress, "POST /callback HTTP/1.1\r\nHost: x\r\nX-User-ID: s\r\nContent-Type: application/json\r\n"+
				"Content-Length: 1000\r\n\r\n{")
		})
	}
	for i := range w.plan.Dawdlers {
		w.actors.Go(func() {
			w.dawdle(i, publicAddress, strings.Repeat("GET /v1/objects?limit=1000 HTTP/1.1\r\nHost: x\r\nX-User-ID: s\r\n\r\n", 100))
		})
	}
}

// send posts a callback until it is acknowledged.
func (w *World) send(client *http.Client, i int) {
	post := w.plan.Posts[i]
	w.sleepUntil(post.At)
	body := post.body()
	first := w.now()
	for w.now() < w.plan.Quiet+w.plan.Bound {
		began := w.now()
		if post.Key != "" {
			began = first // an earlier try may have been taken
		}
		id, wait := w.try(client, post, body)
		if id != "" {
			if took := w.now() - first; post.AckWithin > 0 && took > post.AckWithin {
				w.history.violate(10, "post %d was acknowledged after %v", i, took)
			}
			a := w.history.acknowledged(i, id, began)
			w.useKeyAgain(client, post)
			w.follow(client, a)
			return
		}
		time.Sleep(wait)
	}
	if !post.Whenever {
		w.history.violate(10, "post %d was not acknowledged by %v", i, w.now())
	}
}

// useKeyAgain posts something else under a key that was used: that is refused.
func (w *World) useKeyAgain(client *http.Client, post Post) {
	if post.Key == "" || w.plan.has(ClockJumps) {
		return
	}
	status, _, _, err := do(client, postRequest(post, []byte(`{"object_ids":[],"tag":"another body"}`)))
	switch {
	case err != nil, status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
	case status != http.StatusUnprocessableEntity:
		w.history.violate(1, "another body under key %s of %s was answered with %d", post.Key, post.Sender, status)
	}
}

func (p *Post) body() []byte {
	return []byte(`{"object_ids":` + idList(p.IDs) + `,"tag":` + strconv.Quote(p.Tag) + `}`)
}

func idList(ids []int64) string {
	text, _ := json.Marshal(ids) // integers: it cannot fail
	if ids == nil {
		return "[]"
	}
	return string(text)
}

func postRequest(post Post, body []byte) *http.Request {
	r, _ := http.NewRequest(http.MethodPost, "http://"+publicAddress+"/callback", bytes.NewReader(body)) // it is valid
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-User-ID", post.Sender)
	if post.Key != "" {
		r.Header.Set("Idempotency-Key", post.Key)
	}
	return r
}

// try posts once and returns the callback's id, or how long to wait before the next try.
func (w *World) try(client *http.Client, post Post, body []byte) (id string, wait time.Duration) {
	began := w.now()
	status, header, answer, err := do(client, postRequest(post, body))
	if err != nil {
		if took := w.now() - began; took > answerLimit {
			w.history.violate(7, "a callback got no answer in %v", took)
		}
		return "", patience
	}
	w.history.answered(w.now()-began, status, header.Get("Retry-After"), string(answer))
	if status == http.StatusAccepted {
		var accepted struct {
			ID string `json:"callback_id"`
		}
		if err := json.Unmarshal(answer, &accepted); err != nil || accepted.ID == "" {
			w.history.violate(1, "a 202 without an id: %s", answer)
			return "", patience
		}
		return accepted.ID, 0
	}
	seconds, _ := strconv.Atoi(header.Get("Retry-After")) // checked by answered
	return "", max(patience, time.Duration(seconds)*time.Second)
}

func do(client *http.Client, r *http.Request) (status int, header http.Header, body []byte, err error) {
	response, err := client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, response.Header, body, err
}

// ask is a GET on the operator listener; ok is false unless it was answered with 200.
func (w *World) ask(client *http.Client, path string, into any) (ok bool) {
	return w.get(client, path, into) == http.StatusOK
}

// get is a GET on the operator listener. It returns the status of the answer, or 0.
func (w *World) get(client *http.Client, path string, into any) (status int) {
	r, _ := http.NewRequest(http.MethodGet, "http://"+operatorAddress+path, nil) // it is valid
	status, _, body, err := do(client, r)
	switch {
	case err != nil:
		return 0
	case status == http.StatusServiceUnavailable:
	case status == http.StatusNotFound:
		if id, found := strings.CutPrefix(path, "/v1/callbacks/"); found && !w.plan.damaged() { // else it may be on its way back
			w.history.violate(2, "callback %s was acknowledged and is not known", id)
		}
	case status != http.StatusOK:
		w.history.violate(7, "GET %s was answered with %d %.200s", path, status, body)
	case json.Unmarshal(body, into) != nil:
		w.history.violate(7, "GET %s was answered with what is not JSON: %.200s", path, body)
		return 0
	}
	return status
}

// metric is a value of the operator listener's /metrics; -1 when it is not there.
func (w *World) metric(name string) (value float64) { return w.metrics(name)[0] }

func (w *World) metrics(names ...string) []float64 {
	values := slices.Repeat([]float64{-1}, len(names))
	r, _ := http.NewRequest(http.MethodGet, "http://"+operatorAddress+"/metrics", nil) // it is valid
	client := w.client()
	client.Timeout = time.Second
	defer client.CloseIdleConnections()
	_, _, body, err := do(client, r)
	if err != nil {
		return values
	}
	for i, name := range names {
		_, rest, found := strings.Cut(string(body), "\n"+name+" ")
		if _, err := fmt.Sscan(rest, &values[i]); !found || err != nil {
			values[i] = -1
		}
	}
	return values
}

// follow watches some callbacks to their end, and reads what was stored for them.
func (w *World) follow(client *http.Client, a *ack) {
	post := w.plan.Posts[a.post]
	if post.Whenever || post.Within == 0 && a.post%5 != 0 {
		return
	}
	pause := time.Second
	for w.now() < w.plan.Quiet+w.plan.Bound && !w.over.Load() {
		var r receipt
		if w.ask(client, "/v1/callbacks/"+a.id, &r) && r.Status == "done" {
			w.readFresh(client, a)
			return
		}
		if post.Within > 0 && w.now() > a.at+post.Within {
			w.history.violate(10, "callback %s of post %d is not done %v after its acknowledgement", a.id, a.post, w.now()-a.at)
			return
		}
		time.Sleep(pause)
		if post.Within == 0 {
			pause = min(pause*11/10, time.Minute)
		}
	}
}

// readFresh reads an object of a callback that is done: what is there is no older than the callback.
func (w *World) readFresh(client *http.Client, a *ack) {
	ids := w.plan.Posts[a.post].IDs
	if len(ids) == 0 || w.plan.Traits[ids[0]] != "" {
		return
	}
	asked := w.now()
	var o object
	switch w.get(client, fmt.Sprintf("/v1/objects/%d", ids[0]), &o) {
	case http.StatusOK:
	case http.StatusNotFound:
		if until := w.source.firstAnswer(ids[0], a.began) + w.plan.TTL; w.now() < until && !w.plan.has(ClockJumps) {
			w.history.violate(2, "callback %s was done by %v, and object %d is not there before %v", a.id, asked, ids[0], until)
		}
		return
	default:
		return
	}
	w.history.read(o)
	w.source.mu.Lock()
	began := w.source.fetches[o.Data.N-1].Began
	w.source.mu.Unlock()
	if began < a.began {
		w.history.violate(4, "callback %s is done, and object %d is from a fetch %v before it was posted", a.id, ids[0], a.began-began)
	}
}

// readOn reads objects and lists for as long as the run has trouble.
func (w *World) readOn(client *http.Client, i int) {
	random := w.plan.stream(fmt.Sprintf("reader %d", i))
	for w.now() < w.plan.Quiet {
		time.Sleep(50*time.Millisecond + time.Duration(random.IntN(400_000_000)))
		switch random.IntN(3) {
		case 0:
			var o object
			if w.ask(client, fmt.Sprintf("/v1/objects/%d", random.Int64N(200)), &o) {
				w.history.read(o)
			}
		case 1:
			var list struct {
				Objects []object `json:"objects"`
			}
			if w.ask(client, "/v1/objects?limit=50", &list) {
				for _, o := range list.Objects {
					w.history.read(o)
				}
			}
		case 2:
			var list struct {
				Callbacks []receipt `json:"callbacks"`
			}
			w.ask(client, "/v1/callbacks?limit=20", &list)
		}
	}
}

// change is an operator's; when the service is away for long, it does not happen.
func (w *World) change(client *http.Client, c Change) {
	w.sleepUntil(c.At)
	r, _ := http.NewRequest(c.Method, "http://"+operatorAddress+c.Path, strings.NewReader(c.Body)) // it is valid
	r.Header.Set("Content-Type", "application/json")
	status, _, body, err := do(client, r)
	for retry := 0; err != nil && retry < 10; retry++ {
		time.Sleep(300 * time.Millisecond)
		r.Body = io.NopCloser(strings.NewReader(c.Body))
		status, _, body, err = do(client, r)
	}
	if err == nil {
		w.events.add("operator", "%s %s %s: %d", c.Method, c.Path, c.Body, status)
	}
	if err == nil && status != http.StatusOK && status != http.StatusServiceUnavailable {
		w.history.violate(7, "%s %s %s was answered with %d %.200s", c.Method, c.Path, c.Body, status, body)
	}
}

// watch opens the event feed and never reads.
func (w *World) watch() {
	ctx, cancel := context.WithTimeout(context.Background(), w.plan.Quiet)
	defer cancel()
	for ctx.Err() == nil {
		c, _, err := websocket.Dial(ctx, "ws://"+operatorAddress+"/v1/events", &websocket.DialOptions{HTTPClient: w.client()}) //nolint:bodyclose // the library says that nobody needs to
		if err != nil {
			time.Sleep(patience)
			continue
		}
		<-ctx.Done()
		_ = c.CloseNow()
	}
}

// dawdle sends a request, or a part of one, and then neither reads nor writes. The service must end that.
func (w *World) dawdle(i int, address, text string) {
	random := w.plan.stream(fmt.Sprintf("dawdler %d of %s", i, text[:4]))
	for w.now() < w.plan.Quiet {
		c, err := w.network.dial(address)
		if err != nil {
			time.Sleep(patience)
			continue
		}
		began := w.now()
		_, _ = io.WriteString(c, text)
		select {
		case <-c.ended():
		case <-time.After(dawdleLimit):
			w.history.violate(7, "a client that neither reads nor writes was kept for %v", w.now()-began)
		}
		_ = c.Close()
		time.Sleep(time.Duration(random.IntN(int(5 * time.Second))))
	}
}

// dawdleLimit is the time of an idle connection, and that of an answer.
const dawdleLimit = 2*time.Minute + answerLimit
