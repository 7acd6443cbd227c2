package dispatch

// account is what the window has of one sender.
type account struct {
	callbacks, units int
	backing          int  // waiters that back off
	full             bool // the reader was asked for nothing of it
}

// laterPerUnit is how many ids that wait in the inbox, of a callback that is here for others, take as much memory as one that is here.
const laterPerUnit = 8

// reserve is the part of some room that is only for senders with less than their share, so that one who comes finds room at once.
func reserve(size int) int { return size / 8 }

// full reports whether a sender has its share of the window, and the others need the rest.
func (w *window) full(a *account) bool {
	return w.room() <= reserve(w.size) && a.units >= w.size/(len(w.accounts)+1)
}

// mayBack reports whether n more waiters of a sender may back off here.
func (w *window) mayBack(a *account, n int) bool {
	size := max(1, w.size/2)
	room := size - w.backing - n
	return room >= reserve(size) || room >= 0 && a.backing+n <= size/(len(w.accounts)+1)
}

// hold takes room for a callback.
func (w *window) hold(c *inFlightCallback) {
	a := w.accounts[c.cb.Sender]
	if a == nil {
		a = &account{}
		w.accounts[c.cb.Sender] = a
	}
	c.account = a
	a.callbacks++
	c.units = 1 + len(c.cb.Objects) + len(c.cb.Later)/laterPerUnit
	a.units += c.units
	w.inUse += c.units
}

// release gives the room of a callback back.
func (w *window) release(c *inFlightCallback) {
	a := c.account
	a.units -= c.units
	w.inUse -= c.units
	w.freed = w.freed || w.room() > reserve(w.size) || a.full && !w.full(a)
	if a.callbacks--; a.callbacks == 0 {
		delete(w.accounts, c.cb.Sender)
	}
}
