package inbox

import (
	"fmt"
	"time"

	"callback-service/internal/callback"
)

// admit refuses what would go over the inbox's limit or its sender's share, and all of it while the disk is nearly full.
func (in *Inbox) admit(appends []*pending) []*pending {
	if refused := in.diskRefusal(); refused != nil {
		answer(appends, refused)
		return nil
	}
	if in.options.MaxBytes <= 0 {
		return appends
	}
	used, all := in.bytes.Load(), int64(0)
	for _, p := range appends {
		all += p.size
	}
	if used+all <= in.options.MaxBytes/2 {
		return appends
	}
	accepted := make([]*pending, 0, len(appends))
	held := map[string]int64{} // bytes accepted in this group, by sender
	for _, p := range appends {
		if refused := in.overLimit(used+p.size, p, held); refused != nil {
			p.result <- refused
			continue
		}
		used += p.size
		accepted = append(accepted, p)
	}
	return accepted
}

// overLimit says why p does not fit. Above half of the limit each sender may hold no more than its equal share, and one share is left for
// whoever comes next, so that one sender's flood does not fill the inbox for all. Where nobody has a name there are no shares.
func (in *Inbox) overLimit(used int64, p *pending, held map[string]int64) error {
	limit, sender := in.options.MaxBytes, p.row.sender
	if used > limit {
		return in.full()
	}
	if used <= limit/2 {
		return nil
	}
	a, err := in.write.totals.of(sender)
	if err != nil {
		return unavailable("the disk of the inbox failed; nothing was stored", err)
	}
	senders := in.write.totals.state.senders
	if a.callbacks == 0 {
		senders++
	}
	if sender == "" && senders == 1 || a.bytes+held[sender]+p.size <= limit/(senders+1) {
		held[sender] += p.size
		return nil
	}
	return &callback.Error{
		Code: callback.InboxFull, RetryAfter: time.Second,
		Detail: fmt.Sprintf("%d of your callbacks wait, which is your share of an inbox of %d bytes (--inbox-max-bytes) among %d senders; repeat later",
			a.callbacks, limit, senders),
	}
}
