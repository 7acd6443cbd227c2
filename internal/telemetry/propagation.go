package telemetry

import (
	"context"
	"encoding/binary"
	"net/http"
	"strings"

	"github.com/openzipkin/zipkin-go/model"
	zipkinb3 "github.com/openzipkin/zipkin-go/propagation/b3"
	"go.opencensus.io/plugin/ochttp/propagation/b3"
	"go.opencensus.io/plugin/ochttp/propagation/tracecontext"
	"go.opencensus.io/trace"
)

// maxTracestate is the length up to which W3C Trace Context asks that a tracestate is passed on
// (section 3.3.1.5).
const maxTracestate = 512

// traceContext is what one service tells the next of a trace. The zero value says nothing.
type traceContext struct {
	span  trace.SpanContext // the caller's span, and whether the trace is sampled
	state string            // tracestate, which is passed on unread
}

func (c traceContext) hasSpan() bool {
	return c.span.TraceID != trace.TraceID{} && c.span.SpanID != trace.SpanID{}
}

// String is the context as it is kept in the inbox: a traceparent, and the tracestate after a space
// if there is one.
func (c traceContext) String() string {
	parent, _ := new(tracecontext.HTTPFormat).SpanContextToHeaders(c.span)
	if c.state == "" {
		return parent
	}
	return parent + " " + c.state
}

// parseContext is the inverse of String.
func parseContext(s string) (c traceContext, ok bool) {
	parent, state, _ := strings.Cut(s, " ")
	c.span, ok = new(tracecontext.HTTPFormat).SpanContextFromHeaders(parent, "")
	c.state = state
	return c, ok
}

// Sampled reports whether a context that Propagated returned is that of a sampled trace.
func Sampled(propagated string) bool {
	const flags = len("00-463ac35c9f6413ad48485a3953bb6124-00f067aa0ba902b7-")
	return len(propagated) > flags && strings.HasPrefix(propagated[flags:], "01")
}

type propagatedKey struct{}

func propagate(ctx context.Context, c traceContext) context.Context {
	return context.WithValue(ctx, propagatedKey{}, c)
}

// Propagated is the trace context that requests made with ctx pass on, written down for Continue
// after any wait. It is empty when there is nothing to pass on.
func Propagated(ctx context.Context) string {
	c, ok := ctx.Value(propagatedKey{}).(traceContext)
	if !ok {
		return ""
	}
	return c.String()
}

// Transport passes the trace context of a request's context on, in B3 and in W3C headers.
func Transport(next http.RoundTripper) http.RoundTripper { return &transport{next} }

type transport struct{ next http.RoundTripper }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c, ok := r.Context().Value(propagatedKey{}).(traceContext)
	if !ok {
		return t.next.RoundTrip(r)
	}
	r = r.Clone(r.Context()) // a RoundTripper must not change the request
	new(b3.HTTPFormat).SpanContextToRequest(c.span, r)
	new(tracecontext.HTTPFormat).SpanContextToRequest(c.span, r)
	if c.state != "" {
		r.Header.Set("Tracestate", c.state)
	}
	return t.next.RoundTrip(r)
}

// decision is what a sender says of whether its trace is sampled.
type decision int

const (
	undecided decision = iota // this service decides
	sampled
	notSampled
)

// fromHeader reads the trace context that a request came with: B3 in one header or in several, or
// W3C Trace Context. The first of them that names a span is the caller, and the first that says
// whether the trace is sampled decides: B3 may say the one without the other.
func fromHeader(h http.Header) (caller traceContext, said decision) {
	for _, read := range [...]func(http.Header) (traceContext, decision){singleB3, severalB3, w3c} {
		c, d := read(h)
		switch {
		case !caller.hasSpan():
			caller = c
		case caller.span.TraceID == c.span.TraceID: // the same in another format
			caller.state = c.state
		}
		if said == undecided {
			said = d
		}
	}
	caller.span.TraceOptions = 0
	if said == sampled {
		caller.span.TraceOptions = 1
	}
	return caller, said
}

func singleB3(h http.Header) (traceContext, decision) {
	value := first(h, "B3")
	// The parser panics on a trace id of 128 bits without a whole span id.
	const whole = len("463ac35c9f6413ad48485a3953bb6124-00f067aa0ba902b7")
	if value == "" || len(value) > 16 && value[16] != '-' && len(value) < whole {
		return traceContext{}, undecided
	}
	c, err := zipkinb3.ParseSingleHeader(value)
	if err != nil {
		return traceContext{}, undecided
	}
	return fromZipkin(c)
}

// severalB3 reads the ids apart from the decision, which holds whatever the ids are.
func severalB3(h http.Header) (c traceContext, said decision) {
	if id := first(h, "X-B3-Traceid"); id != "" {
		if ids, err := zipkinb3.ParseHeaders(id, first(h, "X-B3-Spanid"), "", "", ""); err == nil {
			c, _ = fromZipkin(ids)
		}
	}
	if s, flags := first(h, "X-B3-Sampled"), first(h, "X-B3-Flags"); s != "" || flags != "" {
		if d, err := zipkinb3.ParseHeaders("", "", "", s, flags); err == nil {
			_, said = fromZipkin(d)
		}
	}
	return c, said
}

func fromZipkin(c *model.SpanContext) (t traceContext, said decision) {
	binary.BigEndian.PutUint64(t.span.TraceID[:8], c.TraceID.High)
	binary.BigEndian.PutUint64(t.span.TraceID[8:], c.TraceID.Low)
	binary.BigEndian.PutUint64(t.span.SpanID[:], uint64(c.ID))
	switch {
	case c.Debug || c.Sampled != nil && *c.Sampled:
		said = sampled
	case c.Sampled != nil:
		said = notSampled
	}
	return t, said
}

func w3c(h http.Header) (c traceContext, said decision) {
	parents := h["Traceparent"]
	if len(parents) != 1 {
		return c, undecided
	}
	span, ok := new(tracecontext.HTTPFormat).SpanContextFromHeaders(parents[0], "")
	if !ok {
		return c, undecided
	}
	c.span = span
	state := strings.Join(h["Tracestate"], ",")
	if len(state) <= maxTracestate && !strings.ContainsFunc(state, func(r rune) bool { return r < ' ' || r > '~' }) {
		c.state = state
	}
	if span.IsSampled() {
		return c, sampled
	}
	return c, notSampled
}

// first is Header.Get for a name that is canonical already.
func first(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
