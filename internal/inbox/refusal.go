package inbox

import (
	"errors"
	"fmt"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/disk"
)

// hangsFor is how long the committer may be busy with one thing before the disk is taken for one that hangs.
const hangsFor = 2 * time.Second

var (
	errClosing  = &callback.Error{Code: callback.Unavailable, Detail: "the service is shutting down; repeat the callback", RetryAfter: time.Second}
	errDiskFull = errors.New("the disk is nearly full")
	errHangs    = errors.New("the disk does not answer")
)

// refusal is why nothing is accepted just now, or nil. It is derived from its causes at each look: what is stored nowhere cannot be left over.
func (in *Inbox) refusal() *callback.Error {
	if in.closing.Load() {
		return errClosing
	}
	if refused := in.fileRefusal(); refused != nil {
		return refused
	}
	if busy := in.Busy(); busy > hangsFor {
		return unavailable(fmt.Sprintf("the disk of the inbox has not answered for %.0f s; nothing was stored", busy.Seconds()), errHangs)
	}
	if refused := in.diskRefusal(); refused != nil {
		return refused
	}
	if in.options.MaxBytes > 0 && in.bytes.Load()+fullMargin >= in.options.MaxBytes {
		return in.full()
	}
	return nil
}

// Busy is how long the committer has been at what it does, a group of callbacks as a rule; 0: it waits.
func (in *Inbox) Busy() time.Duration {
	since := in.busySince.Load()
	if since == 0 {
		return 0
	}
	return time.Since(in.began) - time.Duration(since)
}

// fileRefusal is set while the file is closed because it failed.
func (in *Inbox) fileRefusal() *callback.Error {
	if fault := in.fault.Load(); fault != nil {
		return unavailable("the disk of the inbox failed; it is being opened again", *fault)
	}
	return nil
}

// diskRefusal is set while the disk has no room but its reserve.
func (in *Inbox) diskRefusal() *callback.Error {
	if !in.diskLow.Load() {
		return nil
	}
	return unavailable(fmt.Sprintf("less than %d MiB are free on the disk of the inbox; nothing was stored", in.options.Reserve>>20), errDiskFull)
}

func (in *Inbox) full() *callback.Error {
	return &callback.Error{
		Code: callback.InboxFull, RetryAfter: time.Second,
		Detail: fmt.Sprintf("%d callbacks wait in the inbox and its limit of %d bytes (--inbox-max-bytes) is reached; repeat later", in.depth.Load(), in.options.MaxBytes),
	}
}

func unavailable(detail string, err error) *callback.Error {
	return &callback.Error{Code: callback.Unavailable, Detail: detail, RetryAfter: time.Second, Err: err}
}

// Room returns how many bytes may still be written on the disk of dir, and an error when they are
// too few for callbacks to be accepted.
func Room(dir string) (int64, error) {
	free, err := disk.Disk{}.OrSystem().Free(dir)
	if err == nil && free < defaultReserve {
		err = fmt.Errorf("the disk of %s has %d MiB free; under %d MiB callbacks are refused", dir, free>>20, defaultReserve>>20)
	}
	return free, err
}
