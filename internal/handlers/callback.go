package handlers

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/events"
	"callback-service/internal/telemetry"
	"callback-service/internal/web"
)

const maxKey = 256

// accept answers POST /callback: 202 once the callback is durable.
func (a *API) accept(w http.ResponseWriter, r *http.Request) {
	began, received := time.Now(), a.now()
	posted, key, err := a.read(w, r)
	if err != nil {
		a.Reject(w, r, err)
		return
	}
	c := callback.Callback{
		ID: callback.NewID(received), Tag: posted.Tag, Objects: posted.Objects,
		Sender: sender(r).Name, Received: received.UTC().Truncate(time.Microsecond),
		Trace: telemetry.Propagated(r.Context()),
	}
	ctx, span := telemetry.StartSpan(r.Context(), "inbox append")
	first, err := a.append(context.WithoutCancel(ctx), &c, key) // see reading; the inbox has a time limit of its own
	span.Fail(err)
	span.End()
	if err != nil {
		a.Reject(w, r, err)
		return
	}
	if first == "" {
		a.Metrics.Accepted.Inc()
		a.tellAccepted(&c)
	} else {
		a.Metrics.Duplicates.Inc()
		c.ID = first
	}
	telemetry.Current(r.Context()).Set("callback_id", c.ID)
	if a.Log.Enabled(r.Context(), slog.LevelDebug) { // asked first, for the arguments alone would cost
		a.Log.Debug("http: accepted", "request_id", web.RequestID(r.Context()), "callback_id", c.ID, "sender", c.Sender, "objects", len(c.Objects),
			"duplicate", first != "", "trace_id", telemetry.Current(r.Context()).TraceID())
	}
	a.Metrics.Ack.Observe(time.Since(began).Seconds())
	acknowledge(w, &c, first != "")
}

// tellAccepted tells those who watch of a callback that is in the inbox.
func (a *API) tellAccepted(c *callback.Callback) {
	if a.Events.Watched() { // asked first, for the receipt alone would cost
		a.Events.Publish(events.CallbackAccepted, c.Sender, waiting(*c))
	}
}

func (a *API) append(ctx context.Context, c *callback.Callback, key callback.Key) (first string, err error) {
	if key.Value == "" {
		return "", a.Inbox.Append(ctx, c)
	}
	return a.Inbox.AppendOnce(ctx, c, key)
}

// acknowledge writes the 202 by hand: encoding/json would be a third of the ack path's own work.
func acknowledge(w http.ResponseWriter, c *callback.Callback, duplicate bool) {
	w.Header().Set("Location", "/v1/callbacks/"+c.ID)
	web.SetType(w.Header(), "application/json")
	w.WriteHeader(http.StatusAccepted)
	body := append(make([]byte, 0, 100), `{"callback_id":"`...)
	body = append(append(body, c.ID...), `","objects":`...)
	body = strconv.AppendInt(body, int64(len(c.Objects)), 10)
	if duplicate {
		body = append(body, `,"duplicate":true`...)
	}
	_, _ = w.Write(append(body, '}')) // the sender has gone; it will repeat, and that is safe
}

// key is what the sender calls the request. A signed webhook-id comes first: a replay could carry
// another Idempotency-Key, which nobody signed, and would be accepted again.
func key(r *http.Request, body []byte) (callback.Key, error) {
	name, value := "webhook-id", sender(r).SignedID
	for _, unsigned := range []string{"Idempotency-Key", "Webhook-Id", "Svix-Id"} {
		if value == "" {
			name, value = unsigned, r.Header.Get(unsigned)
		}
	}
	if value == "" {
		return callback.Key{}, nil
	}
	if len(value) > maxKey || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return callback.Key{}, callback.Errorf(callback.InvalidParameter, "%s: want at most %d characters of printable ASCII", name, maxKey)
	}
	return callback.Key{Value: value, Digest: sha256.Sum256(body)}, nil
}

// Reject answers with err and, where a callback was posted, counts it as rejected. It is for middleware as well.
func (a *API) Reject(w http.ResponseWriter, r *http.Request, err error) {
	code := web.Fail(w, r, err)
	if errors.Is(err, web.ErrUnread) {
		web.Discard(w, r)
	}
	if r.Method != http.MethodPost {
		return
	}
	a.Metrics.Rejected.WithLabelValues(string(code)).Inc()
	if code == callback.Unavailable || code == callback.InternalError {
		a.refused.Error(a.Log, "http: a callback was not accepted", "request_id", web.RequestID(r.Context()), "sender", sender(r).Name,
			"trace_id", telemetry.Current(r.Context()).TraceID(), "error", err)
	}
}

// read takes the body in, as far as it is allowed to be long, and decodes it.
func (a *API) read(w http.ResponseWriter, r *http.Request) (p callback.Posted, k callback.Key, err error) {
	if err := jsonOnly(r.Header); err != nil {
		return p, k, err
	}
	body, err := a.Bodies.Read(w, r, sender(r).Name, a.MaxBody)
	if err != nil {
		return p, k, err
	}
	defer body.Release()
	if k, err = key(r, body.Bytes()); err != nil {
		return p, k, err
	}
	defer body.Turn()()
	p, err = callback.Decode(body.Bytes(), a.MaxIDs)
	return p, k, err
}

// jsonOnly refuses what says that it is not plain JSON. A body that says nothing of itself is taken
// for JSON, but not from a browser, which sends one without a Content-Type only for a page that
// hides what it posts (navigator.sendBeacon does for an untyped Blob).
func jsonOnly(h http.Header) error {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return callback.Errorf(callback.UnsupportedMediaType, "Content-Encoding %q is not supported; send the body as it is", e)
	}
	value := h.Get("Content-Type")
	if value == "application/json" || value == "" && !fromBrowser(h) {
		return nil
	}
	media, params, err := mime.ParseMediaType(value)
	isJSON := media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")
	if err != nil || !isJSON {
		return callback.Errorf(callback.UnsupportedMediaType, "Content-Type %q is not supported; send application/json", value)
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") {
		return callback.Errorf(callback.UnsupportedMediaType, "charset %q is not supported; JSON is UTF-8", charset)
	}
	return nil
}

// fromBrowser reports whether a browser sent these headers for a page; programs send neither.
func fromBrowser(h http.Header) bool { return len(h["Origin"]) > 0 || len(h["Sec-Fetch-Site"]) > 0 }
