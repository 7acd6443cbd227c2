package handlers

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"callback-service/internal/callback"
	"callback-service/internal/events"
	"callback-service/internal/web"
)

// eventProtocol is the WebSocket subprotocol of the feed, for clients that ask for one.
const eventProtocol = "callback.events.v1"

const (
	eventTimeout = 10 * time.Second // of a write to a watcher that does not read
	pingPeriod   = 20 * time.Second // how often a watcher is asked whether it is still there
)

// watch answers GET /v1/events on the public listener: a sender watches its own callbacks.
func (a *API) watch(w http.ResponseWriter, r *http.Request) {
	s := sender(r)
	f := events.Filter{Sender: s.Name, Everybody: s.Admin}
	if a.SenderHolds != nil {
		f.Holds = func() bool { return a.SenderHolds(s) }
	}
	a.feed(w, r, f)
}

// watchAll answers it on the operator listener.
func (a *API) watchAll(w http.ResponseWriter, r *http.Request) {
	f := events.Filter{Everybody: true, Operator: true}
	if a.OperatorHolds != nil {
		f.Holds = func() bool { return a.OperatorHolds(r) }
	}
	a.feed(w, r, f)
}

func (a *API) feed(w http.ResponseWriter, r *http.Request, f events.Filter) {
	values, err := query(r, "type")
	if err == nil {
		f.Types, err = eventTypes(values)
	}
	if err == nil {
		err = upgradable(w, r)
	}
	var watcher *events.Watcher
	if err == nil {
		watcher, err = a.Events.Watch(f)
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	defer watcher.Leave()
	// upgradable has checked the origin, and whatever else Accept would refuse in plain text.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{eventProtocol}})
	if err != nil { // the connection broke
		return
	}
	defer func() { _ = conn.CloseNow() }() // after a panic; else it is closed by then
	// The request's context ends with the connection only until that is hijacked.
	ctx, gone := context.WithCancelCause(context.WithoutCancel(r.Context()))
	var beside sync.WaitGroup
	beside.Go(func() { gone(a.contained(ctx, conn, listen)) }) // ends with the connection, at the latest by Close
	beside.Go(func() { gone(a.contained(ctx, conn, ping)) })   // ends with ctx
	code, reason := send(ctx, conn, watcher)
	_ = conn.Close(code, reason) // the client may have gone before
	gone(nil)
	beside.Wait()
}

var (
	errTalks    = errors.New("nothing is to be said here")
	errProtocol = errors.New("that is not the WebSocket protocol (RFC 6455)")
	errBug      = errors.New("a bug of this service; its log has it")
)

// contained runs what has a goroutine of its own beside a handler's. A panic there costs the connection, and not the process.
func (a *API) contained(ctx context.Context, conn *websocket.Conn, f func(context.Context, *websocket.Conn) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.Metrics.Panics.Inc()
			a.Log.Error("http: a live feed panicked", "panic", p, "stack", string(debug.Stack()))
			err = errBug
		}
	}()
	return f(ctx, conn)
}

// listen waits for the end of the connection. It answers pings meanwhile. Any end but a close frame
// is errProtocol: the library leaves it to its caller to close a connection for an unmasked frame,
// and when the connection broke nobody reads what we close it with.
func listen(ctx context.Context, conn *websocket.Conn) error {
	switch _, _, err := conn.Reader(ctx); {
	case err == nil:
		return errTalks
	case websocket.CloseStatus(err) == -1:
		return errProtocol
	default:
		return err
	}
}

// ping asks the client now and then whether it is still there, until it is not, or ctx ends.
func ping(ctx context.Context, conn *websocket.Conn) error {
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := within(ctx, conn.Ping); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// send passes events on until they end, or until the client is gone.
func send(ctx context.Context, conn *websocket.Conn, watcher *events.Watcher) (websocket.StatusCode, string) {
	for {
		select {
		case e, more := <-watcher.Events():
			if !more {
				return ended(watcher.Reason())
			}
			if err := within(ctx, func(ctx context.Context) error { return write(ctx, conn, e) }); err != nil {
				return websocket.StatusNormalClosure, "" // nobody reads it
			}
		case <-ctx.Done():
			switch cause := context.Cause(ctx); {
			case errors.Is(cause, errTalks):
				return websocket.StatusPolicyViolation, cause.Error()
			case errors.Is(cause, errProtocol):
				return websocket.StatusProtocolError, cause.Error()
			case errors.Is(cause, errBug):
				return websocket.StatusInternalError, cause.Error()
			}
			return websocket.StatusNormalClosure, "" // nobody reads it
		}
	}
}

func ended(reason string) (websocket.StatusCode, string) {
	if reason == events.Closing {
		return websocket.StatusGoingAway, reason
	}
	return websocket.StatusPolicyViolation, reason
}

func within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	return f(ctx)
}

func write(ctx context.Context, conn *websocket.Conn, e *events.Event) error {
	text, err := e.MarshalJSON() // by itself, for json.Marshal would read it through once more
	if err != nil {
		panic(err) // an event that this program made wrong: a bug, which the recoverer logs
	}
	return conn.Write(ctx, websocket.MessageText, text)
}

// eventTypes reads type=a,b or type=a&type=b.
func eventTypes(values url.Values) (types []events.Type, err error) {
	for _, name := range strings.FieldsFunc(strings.Join(values["type"], ","), func(r rune) bool { return r == ',' }) {
		t := events.Type(name)
		if !slices.Contains(events.Types(), t) {
			return nil, callback.Errorf(callback.InvalidParameter, "type: want some of %v, separated by commas, not %.40q", events.Types(), name)
		}
		types = append(types, t)
	}
	return types, nil
}

// upgradable says what is wrong with a request that is no opening of a WebSocket (RFC 6455, 4.2.1),
// or one from another site's page. Its answers carry no Upgrade header, which HTTP/2 forbids.
func upgradable(w http.ResponseWriter, r *http.Request) error {
	h := r.Header
	keys := h.Values("Sec-WebSocket-Key")
	switch {
	case r.Method != http.MethodGet || r.Proto != "HTTP/1.1",
		!has(h, "Connection", "upgrade") || !has(h, "Upgrade", "websocket"):
		return callback.Errorf(callback.InvalidParameter, "this is a WebSocket: connect with a client for that, over HTTP/1.1")
	case r.ContentLength != 0: // it would be read as frames
		return callback.Errorf(callback.InvalidParameter, "the opening of a WebSocket has no body")
	case h.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		return callback.Errorf(callback.InvalidParameter, "Sec-WebSocket-Version: want 13")
	case len(keys) != 1 || !isNonce(keys[0]):
		return callback.Errorf(callback.InvalidParameter, "Sec-WebSocket-Key: want 16 bytes in base64, once")
	case !web.SameSite(r):
		return callback.Errorf(callback.Forbidden, "the request comes from a page of another site")
	}
	return nil
}

func isNonce(key string) bool {
	nonce, err := base64.StdEncoding.DecodeString(strings.TrimSpace(key))
	return err == nil && len(nonce) == 16
}

// has looks for a token in a header that is a list of them.
func has(h http.Header, name, token string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(h.Values(name), ","), ","), func(t string) bool {
		return strings.EqualFold(strings.TrimSpace(t), token)
	})
}
