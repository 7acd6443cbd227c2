// Package telemetry is how the service is watched: traces to Zipkin, metrics for Prometheus, logs.
// It is the only package that knows OpenCensus and zipkin-go, which are archived: whoever replaces them does it here.
package telemetry

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"
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

// Continue starts a span under a parent that Propagated wrote down. Of a trace that is not sampled,
// and while no spans are exported, it starts none: what is propagated is passed on as it is. A
// parent that says nothing does nothing.
func Continue(ctx context.Context, parent, name string, kind Kind) (context.Context, Span) {
	c, ok := parseContext(parent)
	if !ok {
		return ctx, Span{}
	}
	if !c.span.IsSampled() || !exporting.Load() {
		return propagate(ctx, c), Span{}
	}
	ctx, s := trace.StartSpanWithRemoteParent(ctx, name, c.span,
		trace.WithSpanKind(int(kind)), trace.WithSampler(trace.AlwaysSample()))
	return propagate(ctx, traceContext{s.SpanContext(), c.state}), Span{s}
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

// startServer starts the span of a request and sees to what is propagated of it. While spans are
// exported that is the request's span, whose trace is not sampled if the sender says so, or if it
// leaves that to this service and SetTraceProbability decides against it. While none are, what the
// sender said is passed on.
func startServer(r *http.Request) (context.Context, *trace.Span) {
	caller, said := fromHeader(r.Header)
	options := []trace.StartOption{trace.WithSpanKind(trace.SpanKindServer)}
	if said == notSampled {
		options = append(options, trace.WithSampler(trace.NeverSample()))
	}
	ctx := r.Context()
	var s *trace.Span
	if caller.hasSpan() {
		ctx, s = trace.StartSpanWithRemoteParent(ctx, r.Method, caller.span, options...)
	} else {
		ctx, s = trace.StartSpan(ctx, r.Method, options...)
	}
	switch {
	case exporting.Load() || said == notSampled:
		ctx = propagate(ctx, traceContext{s.SpanContext(), caller.state})
	case said == sampled && caller.hasSpan():
		ctx = propagate(ctx, caller)
	}
	return ctx, s
}

// Current is the span that Middleware or StartSpan put into ctx.
func Current(ctx context.Context) Span { return Span{trace.FromContext(ctx)} }
