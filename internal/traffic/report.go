package traffic

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Report is the sum of a run. Verdict is "pass" when every acknowledged callback was honoured, "fail", "unsettled" when nothing
// is known to be wrong but some callbacks could not be judged, or "none" when there was no traffic to judge.
type Report struct {
	Verdict string `json:"verdict"`
	// Failures say in words why it is not a pass.
	Failures []string `json:"failures,omitempty"`

	// Sent counts callbacks, Attempts the POSTs that this took, Repeats those after the first.
	Sent         uint64 `json:"sent"`
	Attempts     uint64 `json:"attempts"`
	Repeats      uint64 `json:"repeats"`
	Acknowledged uint64 `json:"acknowledged"`
	// Refused got a final answer that is no 2xx; GivenUp never got one; Unsent were due and never left, for want of a slot.
	// Nothing is owed to any of them.
	Refused uint64 `json:"refused"`
	GivenUp uint64 `json:"given_up"`
	Unsent  uint64 `json:"unsent"`
	// Status counts attempts by HTTP status, or "error" when the connection failed.
	Status map[string]uint64 `json:"status"`
	// AckMS is milliseconds from when a callback was due to its acknowledgement, repeats and waits included.
	AckMS Quantiles `json:"ack_ms"`

	// IDs is how many objects the acknowledged callbacks named, each once a callback.
	IDs uint64 `json:"ids"`
	// Fetched is how many requests got an object from the source; Coalesced the share of IDs that needed no request of their own.
	Fetched   uint64  `json:"fetched"`
	Coalesced float64 `json:"coalesced_share"`
	// Stored, Missing, Skipped and Failed are sums of receipts. Without receipts, Stored is how many sampled objects were readable.
	Stored          int     `json:"stored"`
	StoredPerSecond float64 `json:"stored_per_second"`
	Missing         int     `json:"missing"`
	Skipped         int     `json:"skipped"`
	Failed          int     `json:"failed"`
	Receipts        bool    `json:"receipts"`

	// Honoured, Lost and NotJudged add up to Acknowledged.
	Honoured int `json:"honoured"`
	// Lost is how many acknowledged callbacks are proven not to have been honoured, LostIDs the ids concerned and Losses the
	// callbacks, of each the first hundred.
	Lost    int     `json:"lost"`
	LostIDs []int64 `json:"lost_ids,omitempty"`
	Losses  []Loss  `json:"losses,omitempty"`
	// NotJudged are the acknowledged callbacks of which it is not known what became of them, and why. They count neither as
	// lost nor as stored.
	NotJudged        int            `json:"not_judged"`
	NotJudgedBecause map[string]int `json:"not_judged_because,omitempty"`

	Objects ObjectTotals `json:"objects"`
	Source  SourceTotals `json:"source"`

	TrafficSeconds float64 `json:"traffic_seconds"`
	SettleSeconds  float64 `json:"settle_seconds"`
}

// report may be called when everything has stopped.
func (r *Run) report() *Report {
	t, j := r.tally, r.judge
	rep := &Report{
		Sent: t.sent.Load(), Attempts: t.attempts.Load(), Repeats: t.repeats.Load(), Acknowledged: t.acknowledged.Load(),
		Refused: t.refused.Load(), GivenUp: t.givenUp.Load(), Unsent: r.unsent, Status: t.byStatus(), AckMS: t.ack.quantiles(),
		IDs: t.ids.Load(), Stored: j.outcome.Stored, Missing: j.outcome.Missing, Skipped: j.outcome.Skipped, Failed: j.outcome.Failed,
		Receipts: j.sawDone, Honoured: j.honoured, Lost: j.lost,
		NotJudgedBecause: j.notJudged, Losses: j.losses, Objects: j.sampler.totals, Source: r.source.totals(),
		TrafficSeconds: r.trafficTook.Seconds(), SettleSeconds: r.settleTook.Seconds(),
	}
	rep.Fetched = rep.Source.Objects
	for _, n := range rep.NotJudgedBecause {
		rep.NotJudged += n
	}
	if rep.IDs > 0 {
		rep.Coalesced = max(0, 1-float64(rep.Source.Requests)/float64(rep.IDs))
	}
	if !rep.Receipts {
		rep.Stored = rep.Objects.Readable
	}
	if busy := (j.lastAt - r.began).Seconds(); busy > 0 && rep.Receipts {
		rep.StoredPerSecond = float64(rep.Stored) / busy
	}
	for _, l := range rep.Losses {
		rep.LostIDs = append(rep.LostIDs, l.IDs...)
	}
	slices.Sort(rep.LostIDs)
	rep.LostIDs = slices.Compact(rep.LostIDs)
	rep.LostIDs = rep.LostIDs[:min(len(rep.LostIDs), lossesKept)]
	rep.judge(r.idle())
	return rep
}

func (rep *Report) judge(idle bool) {
	if idle {
		rep.Verdict = "none"
		return
	}
	fail := func(n int, format string) {
		if n > 0 {
			rep.Failures = append(rep.Failures, fmt.Sprintf(format, n))
		}
	}
	if rep.Acknowledged == 0 {
		rep.Failures = append(rep.Failures, "nothing was acknowledged")
	}
	fail(rep.Lost, "%d acknowledged callbacks were lost")
	fail(rep.Objects.Overdue, fmt.Sprintf("%%d sampled objects were still readable %v after their time", expiryTolerance))
	fail(rep.Objects.Early, "%d sampled objects were gone before their time")
	fail(rep.Objects.Unreadable, "%d sampled objects were not readable although they were stored")
	switch {
	case len(rep.Failures) > 0:
		rep.Verdict = "fail"
	case rep.NotJudged > 0:
		rep.Verdict = "unsettled"
	default:
		rep.Verdict = "pass"
	}
}

// Red reports whether the verdict is red. A run without traffic has none.
func (rep *Report) Red() bool { return rep.Verdict == "fail" }

// Unsettled reports whether nothing is known to be wrong, but not everything could be judged.
func (rep *Report) Unsettled() bool { return rep.Verdict == "unsettled" }

// WriteJSON writes one JSON object and a newline.
func (rep *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(rep)
}

// WriteText writes the report for people.
func (rep *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s"+format+"\n", append([]any{name}, args...)...)
	}
	line("verdict", "%s", strings.ToUpper(rep.Verdict))
	for _, f := range rep.Failures {
		line("", "%s", f)
	}
	line("callbacks", "%d sent, %d acknowledged, %d refused, %d given up, %d unsent (%d repeats)", rep.Sent, rep.Acknowledged, rep.Refused, rep.GivenUp, rep.Unsent, rep.Repeats)
	line("answers", "%s", statusLine(rep.Status))
	line("ack", "p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, max %.2f ms", rep.AckMS.P50, rep.AckMS.P90, rep.AckMS.P99, rep.AckMS.P999, rep.AckMS.Max)
	line("objects", "%d named, %d fetched (%d requests, %.0f%% coalesced)", rep.IDs, rep.Fetched, rep.Source.Requests, 100*rep.Coalesced)
	if rep.Receipts {
		line("receipts", "%d stored (%.0f/s), %d missing, %d skipped, %d failed", rep.Stored, rep.StoredPerSecond, rep.Missing, rep.Skipped, rep.Failed)
	} else if rep.Acknowledged > 0 {
		line("receipts", "none kept; judged by fetches and objects alone")
	}
	o := rep.Objects
	line("expiry", "%d sampled, %d disappeared in time, %d overdue, %d early, %d unreadable, %d not watched to the end", o.Sampled, o.Disappeared, o.Overdue, o.Early, o.Unreadable, o.Unwatched)
	if o.Disappeared > 0 {
		line("", "lag p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms", o.LagMS.P50, o.LagMS.P90, o.LagMS.P99, o.LagMS.Max)
	}
	line("lost", "%d", rep.Lost)
	for _, l := range rep.Losses {
		line("", "%s: %s %v", l.CallbackID, l.Reason, l.IDs)
	}
	line("not judged", "%d", rep.NotJudged)
	for _, reason := range slices.Sorted(maps.Keys(rep.NotJudgedBecause)) {
		line("", "%d: %s", rep.NotJudgedBecause[reason], reason)
	}
	line("time", "%v of traffic, %v to settle", seconds(rep.TrafficSeconds), seconds(rep.SettleSeconds))
	_, err := io.WriteString(w, b.String())
	return err
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
}

func statusLine(status map[string]uint64) string {
	keys := make([]string, 0, len(status))
	for k := range status {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%s: %d", k, status[k])
	}
	return strings.Join(keys, ", ")
}
