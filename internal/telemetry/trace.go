// Package telemetry is how the service is watched: traces to Zipkin, metrics for Prometheus, logs.
// It is the only package that knows OpenCensus and zipkin-go, which are archived: whoever replaces them does it here.
package telemetry

import (
	"context"
	"encoding/binary"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/openzipkin/zipkin-go/model"
	zipkinb3 "github.com/openzipkin/zipkin-go/propagation/b3"
	"go.opencensus.io/plugin/ochttp/propagation/b3"
	"go.opencensus.io/plugin/ochttp/propagation/tracecontext"
	"go.opencensus.io/trace"
)

// Span is one timed piece of a trace. The zero value, and one of a trace that is not sampled, do nothing.
type Span struct{ s *trace.Span }

// Kind is the side of a call that a span stands on.
type Kind int

// The kinds of Zipkin's model.
const (
	Internal = Kind(trace.SpanKindUnspecified)
	Server   = Kind(trace.SpanKindServer)
	Client   = Kind(trace.SpanKindClient)
)

// StartSpan starts a child of the span in ctx.
func StartSpan(ctx context.Context, name string) (context.Context, Span) {
	ctx, s := trace.StartSpan(ctx, name)
	return ctx, Span{s}
}

// TraceID is the trace's id for a log line; empty when nobody will see the trace.
func (s Span) TraceID() string {
	if !s.Sampled() {
		return ""
	}
	return s.s.SpanContext().TraceID.String()
}

// Continue starts a span under a parent that was written down as Traceparent. When the trace was not sampled, or parent is not a
// traceparent, it starts nothing.
func Continue(ctx context.Context, parent, name string, kind Kind) (context.Context, Span) {
	if parent == "" {
		return ctx, Span{}
	}
	sc, ok := new(tracecontext.HTTPFormat).SpanContextFromHeaders(parent, "")
	if !ok || !sc.IsSampled() {
		return ctx, Span{}
	}
	ctx, s := trace.StartSpanWithRemoteParent(ctx, name, sc, trace.WithSpanKind(int(kind)), trace.WithSampler(trace.AlwaysSample()))
	return ctx, Span{s}
}

// End ends the span; it is exported then, in the background.
func (s Span) End() {
	if s.s != nil {
		s.s.End()
	}
}

// Set adds an attribute.
func (s Span) Set(key, value string) {
	if s.s != nil {
		s.s.AddAttributes(trace.StringAttribute(key, value))
	}
}

// Count adds a number as an attribute.
func (s Span) Count(key string, n int) {
	if s.s != nil {
		s.s.AddAttributes(trace.Int64Attribute(key, int64(n)))
	}
}

// Annotate notes that something happened now.
func (s Span) Annotate(what string) {
	if s.s != nil {
		s.s.Annotate(nil, what)
	}
}

// Fail marks the span as failed. A nil err does nothing.
func (s Span) Fail(err error) {
	if s.s != nil && err != nil {
		s.s.SetStatus(trace.Status{Code: trace.StatusCodeUnknown, Message: err.Error()})
	}
}

// Sampled reports whether anybody will see the span.
func (s Span) Sampled() bool { return s.s != nil && s.s.SpanContext().IsSampled() }

// Traceparent is the span written down (W3C Trace Context), for Continue after any wait; empty when the trace is not sampled.
func (s Span) Traceparent() string {
	if !s.Sampled() {
		return ""
	}
	parent, _ := new(tracecontext.HTTPFormat).SpanContextToHeaders(s.s.SpanContext())
	return parent
}

// Middleware starts a span for each request, under the one that came with it in B3 or W3C headers, and names it by its route.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, s := startServer(r)
		defer s.End()
		next.ServeHTTP(w, r.WithContext(ctx))
		if s.IsRecordingEvents() {
			if route := chi.RouteContext(ctx); route != nil && route.RoutePattern() != "" {
				s.SetName(r.Method + " " + route.RoutePattern())
			}
			s.AddAttributes(trace.StringAttribute("http.method", r.Method), trace.StringAttribute("http.path", r.URL.Path))
		}
	})
}

func startServer(r *http.Request) (context.Context, *trace.Span) {
	kind := trace.WithSpanKind(trace.SpanKindServer)
	if r.Header.Get("B3") == "0" { // the sender decided, and has no trace to tell of
		return trace.StartSpan(r.Context(), r.Method, kind, trace.WithSampler(trace.NeverSample()))
	}
	if parent, ok := remote(r); ok {
		return trace.StartSpanWithRemoteParent(r.Context(), r.Method, parent, kind)
	}
	return trace.StartSpan(r.Context(), r.Method, kind)
}

// remote is the span that a request came with: B3 in one header or several, or W3C Trace Context.
func remote(r *http.Request) (trace.SpanContext, bool) {
	if single := r.Header.Get("B3"); single != "" {
		if c, err := zipkinb3.ParseSingleHeader(single); err == nil && !c.TraceID.Empty() {
			return fromZipkin(c), true
		}
	}
	if c, ok := new(b3.HTTPFormat).SpanContextFromRequest(r); ok {
		return c, true
	}
	return new(tracecontext.HTTPFormat).SpanContextFromRequest(r)
}

func fromZipkin(c *model.SpanContext) (s trace.SpanContext) {
	binary.BigEndian.PutUint64(s.TraceID[:8], c.TraceID.High)
	binary.BigEndian.PutUint64(s.TraceID[8:], c.TraceID.Low)
	binary.BigEndian.PutUint64(s.SpanID[:], uint64(c.ID))
	if c.Debug || c.Sampled != nil && *c.Sampled {
		s.TraceOptions = 1
	}
	return s
}

// Current is the span that Middleware or StartSpan put into ctx.
func Current(ctx context.Context) Span { return Span{trace.FromContext(ctx)} }

// Transport passes the trace of a request's context on in B3 headers.
func Transport(next http.RoundTripper) http.RoundTripper { return &transport{next} }

type transport struct{ next http.RoundTripper }

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	s := Current(r.Context())
	if !s.Sampled() {
		return t.next.RoundTrip(r)
	}
	r = r.Clone(r.Context()) // a RoundTripper must not change the request
	new(b3.HTTPFormat).SpanContextToRequest(s.s.SpanContext(), r)
	return t.next.RoundTrip(r)
}
