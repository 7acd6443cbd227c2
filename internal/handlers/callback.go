package handlers

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/telemetry"
	"callback-service/internal/web"
)

// bodies keeps buffers for bodies, for the ack path allocates little else. Large ones are not kept.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const keepBody = 64 << 10

// accept answers POST /callback: 202 once the callback is durable.
func (a *API) accept(w http.ResponseWriter, r *http.Request) {
	received := time.Now()
	posted, err := a.read(w, r)
	if err != nil {
		a.Reject(w, r, err)
		return
	}
	c := callback.Callback{
		ID: callback.NewID(received), Tag: posted.Tag, Objects: posted.Objects,
		Received: received.UTC().Truncate(time.Microsecond),
		Trace:    telemetry.Current(r.Context()).Traceparent(),
	}
	ctx, span := telemetry.StartSpan(r.Context(), "inbox append")
	err = a.Inbox.Append(ctx, &c)
	span.Fail(err)
	span.End()
	if err != nil {
		a.Reject(w, r, err)
		return
	}
	telemetry.Current(r.Context()).Set("callback_id", c.ID)
	a.Metrics.Accepted.Inc()
	a.Metrics.Ack.Observe(time.Since(received).Seconds())
	w.Header().Set("Location", "/v1/callbacks/"+c.ID)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	body := append(make([]byte, 0, 80), `{"callback_id":"`...)
	body = append(append(body, c.ID...), `","objects":`...)
	body = append(strconv.AppendInt(body, int64(len(c.Objects)), 10), '}')
	_, _ = w.Write(body) // the sender has gone; it will repeat, and that is safe
}

// Reject answers with err and, where a callback was posted, counts it as rejected. It is for middleware as well.
func (a *API) Reject(w http.ResponseWriter, r *http.Request, err error) {
	code := web.Fail(w, r, err)
	if r.Method != http.MethodPost {
		return
	}
	a.Metrics.Rejected.WithLabelValues(string(code)).Inc()
	if code == callback.Unavailable || code == callback.InternalError {
		a.Log.Error("http: a callback was not accepted", "request_id", web.RequestID(r.Context()), "error", err)
	}
}

// read takes the body in, as far as it is allowed to be long, and decodes it.
func (a *API) read(w http.ResponseWriter, r *http.Request) (callback.Posted, error) {
	if err := jsonOnly(r.Header); err != nil {
		return callback.Posted{}, err
	}
	tooLarge := callback.Errorf(callback.BodyTooLarge, "the body is over %d bytes (--web-max-body)", a.MaxBody)
	if r.ContentLength > a.MaxBody {
		w.Header().Set("Connection", "close")
		return callback.Posted{}, tooLarge
	}
	buffer := bodies.Get().(*bytes.Buffer)
	defer func() {
		if buffer.Cap() <= keepBody {
			buffer.Reset()
			bodies.Put(buffer)
		}
	}()
	_, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, a.MaxBody))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return callback.Posted{}, tooLarge
	case errors.Is(err, io.ErrUnexpectedEOF):
		return callback.Posted{}, callback.Errorf(callback.InvalidJSON, "the body ended before its Content-Length")
	case err != nil:
		return callback.Posted{}, callback.Errorf(callback.InvalidJSON, "the body could not be read to its end, or not in time")
	}
	return callback.Decode(buffer.Bytes(), a.MaxIDs)
}

// jsonOnly refuses what says that it is not plain JSON. A body that says nothing of itself is taken for JSON.
func jsonOnly(h http.Header) error {
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return callback.Errorf(callback.UnsupportedMediaType, "Content-Encoding %q is not supported; send the body as it is", e)
	}
	value := h.Get("Content-Type")
	if value == "" || value == "application/json" {
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
