package simulate

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settle waits until every acknowledged callback has its receipt, for as long as the bound allows, and
// returns the receipts.
func (w *World) settle(client *http.Client) map[string]receipt {
	for pause := 2 * time.Second; ; pause = min(pause*11/10, 20*time.Second) { // some wait for an hour
		done, ok := w.receipts(client)
		missing := w.history.missing(done)
		if ok && missing == 0 && w.allPosted() || ok && w.plan.damaged() && w.allToldOf(client, done) {
			return done
		}
		if w.now() > w.plan.Quiet+w.plan.Bound {
			w.history.violate(10, "%d callbacks are not done %v after all faults were over", missing, w.plan.Bound)
			return done
		}
		w.postGood(client)
		time.Sleep(pause)
	}
}

// postGood posts an id that the source answers. Without it those that fail for a reason of their own would wait for ever: nothing would show
// that it is not the source that fails.
func (w *World) postGood(client *http.Client) {
	w.mu.Lock()
	w.good++
	id := goodIDs + w.good
	w.mu.Unlock()
	w.history.mu.Lock()
	w.history.posted[id] = true
	w.history.mu.Unlock()
	post := Post{Sender: "steady", IDs: []int64{id}}
	w.try(client, post, post.body())
}

// goodIDs are below the ids that the source is asked for by postGood, and above all others.
const goodIDs = 1 << 61

// allPosted reports whether every post that will be acknowledged was.
func (w *World) allPosted() bool {
	acked := map[int]bool{}
	for _, a := range w.history.sorted() {
		acked[a.post] = true
	}
	keys := map[string]bool{}
	for _, a := range w.history.sorted() {
		p := w.plan.Posts[a.post]
		keys[p.Sender+"\x00"+p.Key] = true
	}
	for i, p := range w.plan.Posts {
		if !acked[i] && !p.Whenever && (p.Key == "" || !keys[p.Sender+"\x00"+p.Key]) {
			return false
		}
	}
	return true
}

// unfinished reports whether something may be waiting at the end of the run.
func (w *World) unfinished() bool {
	return w.history.broken() || w.redriven() || slices.ContainsFunc(w.plan.Posts, func(p Post) bool { return p.Whenever })
}

// receipts lists all that are done, or damaged; ok is false when the service did not answer.
func (w *World) receipts(client *http.Client) (done map[string]receipt, ok bool) {
	done = map[string]receipt{}
	ok = w.receiptsOf(client, "done", done)
	if w.plan.damaged() {
		ok = w.receiptsOf(client, statusDamaged, done) && ok
	}
	return done, ok
}

func (w *World) receiptsOf(client *http.Client, status string, done map[string]receipt) (ok bool) {
	for after := ""; ; {
		var page struct {
			Callbacks []receipt `json:"callbacks"`
			Next      string    `json:"next"`
		}
		if !w.ask(client, "/v1/callbacks?status="+status+"&limit=25"+after, &page) {
			return false
		}
		for _, r := range page.Callbacks {
			done[r.ID] = r
		}
		if page.Next == "" {
			return true
		}
		after = "&after=" + page.Next
	}
}

// letters are the dead letters, by sender and object.
func (w *World) letters(client *http.Client) map[string]bool {
	all := map[string]bool{}
	for after := ""; ; {
		var page struct {
			Letters []struct {
				Sender string `json:"sender"`
				Object int64  `json:"object_id"`
			} `json:"dead_letters"`
			Next json.RawMessage `json:"next"`
		}
		if !w.ask(client, "/admin/dead-letters?limit=5"+after, &page) {
			return all
		}
		for _, l := range page.Letters {
			all[fmt.Sprintf("%s/%d", l.Sender, l.Object)] = true
		}
		var next string
		if len(page.Next) == 0 || json.Unmarshal(page.Next, &next) != nil || next == "" {
			return all
		}
		after = "&after=" + next
	}
}

// redriven reports whether the operator took dead letters away.
func (w *World) redriven() bool {
	return slices.ContainsFunc(w.plan.Changes, func(c Change) bool { return strings.HasSuffix(c.Path, "/redrive") })
}

// bounded checks the window's size now and then (promise 6).
func (w *World) bounded() {
	limit, err := strconv.ParseFloat(w.plan.Flags["pool-window"], 64)
	if err != nil {
		return
	}
	largest := 0 // the last callback that comes in may exceed the window
	for _, p := range w.plan.Posts {
		largest = max(largest, len(p.IDs))
	}
	limit += float64(largest)
	for i := range 3 {
		w.sleepUntil(w.plan.Quiet * time.Duration(i+1) / 4)
		if pairs := w.metric("callback_window_pairs"); pairs > limit {
			w.history.violate(6, "%.0f pairs are in a window of %.0f", pairs, limit)
		}
	}
}

// settling is how long after trouble the expirer may be late, and overdueLimit how late it may be otherwise.
const (
	settling     = 3 * time.Second
	overdueLimit = 500 * time.Millisecond
)

// watchExpiry asks now and then whether a row outlives its time (promise 5), but for when the database, its
// disk or the clock is in trouble. It goes on for a while after that, for the expirer must come back in time.
func (w *World) watchExpiry() {
	for w.now() < min(w.plan.Quiet, 5*time.Minute)+5*settling {
		time.Sleep(time.Second)
		d := w.database.Load()
		if d == nil || d.life.mount.dead.Load() || w.now() < d.since+settling || w.databaseTrouble() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		in, ok, err := d.Store.NextExpiry(ctx)
		cancel()
		if err == nil && ok && in < -overdueLimit && !d.life.mount.dead.Load() && !d.life.stopping.Load() {
			w.history.violate(5, "a row is there %v after its time", -in)
		}
	}
}

// databaseTrouble reports whether something is wrong with the database or its disk, or was just now.
func (w *World) databaseTrouble() bool {
	for _, f := range w.plan.Faults {
		kind := string(f.Kind)
		disk := (f.Kind == DiskError || f.Kind == DiskFull) && (f.aims(objectsFile) || f.aims(objectsFile+"-wal"))
		if (strings.HasPrefix(kind, "database-") || disk || f.Kind == ClockJumps || f.Kind == ReadSlow) &&
			w.now() >= f.At && w.now() < f.At+f.For+2*settling { // the database is tried again every few seconds
			return true
		}
	}
	return false
}

// waiting is how many callbacks are in the inbox.
func (w *World) waiting(client *http.Client) (sum int) {
	for _, status := range []string{"accepted", "processing"} {
		var counted struct {
			Count int `json:"count"`
		}
		w.ask(client, "/v1/callbacks?count=1&status="+status, &counted)
		sum += counted.Count
	}
	return sum
}

// empty checks what is left when all is done: nothing that waits, nothing that has expired.
func (w *World) empty(client *http.Client) {
	// Callbacks that were taken and not acknowledged, for the answer was lost, are done as well.
	for left := w.waiting(client); left > 0 && !w.unfinished(); left = w.waiting(client) {
		if w.now() > w.plan.Quiet+2*w.plan.Bound {
			w.history.violate(2, "%d callbacks still wait when all are done", left)
			break
		}
		w.postGood(client)
		time.Sleep(10 * time.Second) // longer than the good one takes
	}
	var ready struct {
		Status string `json:"status"`
	}
	for since := w.now(); !w.ask(client, "/readyz", &ready); time.Sleep(time.Second) {
		if w.now() > since+shutdownTimeout+5*time.Second { // the last drain may still be under way
			w.history.violate(10, "/readyz is not ready when nothing is wrong")
			break
		}
	}
	time.Sleep(w.plan.TTL + 500*time.Millisecond)
	if w.unfinished() {
		return
	}
	var list struct {
		Objects []object `json:"objects"`
	}
	if w.ask(client, "/v1/objects?limit=10", &list) && len(list.Objects) > 0 && !w.plan.has(ClockJumps) {
		w.history.violate(5, "%d objects or more outlive their time, such as %d", len(list.Objects), list.Objects[0].ID)
	}
}
