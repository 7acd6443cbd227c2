package telemetry

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testTrace = "463ac35c9f6413ad48485a3953bb6124"
	testSpan  = "00f067aa0ba902b7"
	parent00  = "00-" + testTrace + "-" + testSpan + "-00"
	parent01  = "00-" + testTrace + "-" + testSpan + "-01"
)

// export has spans exported, to nowhere, for the time of a test.
func export(t *testing.T, probability, ceiling float64) {
	t.Helper()
	stop, err := StartTracing(TraceOptions{
		URL: func() *url.URL { return &url.URL{Scheme: "http", Host: "127.0.0.1:1"} }, Probability: probability, Ceiling: ceiling, Timeout: time.Second,
		Logger: slog.New(slog.DiscardHandler), Dropped: NewMetrics(nil, nil).SpansDropped,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		stop()
		_, err := StartTracing(TraceOptions{})
		require.NoError(t, err)
	})
}

// TestSendersDecide: in whatever way a sender writes its span and its decision down, they are read.
func TestSendersDecide(t *testing.T) {
	const ids = testTrace + "-" + testSpan
	several := func(more ...string) http.Header {
		h := http.Header{"X-B3-Traceid": {testTrace}, "X-B3-Spanid": {testSpan}}
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return h
	}
	for name, c := range map[string]struct {
		header  http.Header
		said    decision
		hasSpan bool
	}{
		"nothing":                     {http.Header{}, undecided, false},
		"B3, 0":                       {http.Header{"B3": {"0"}}, notSampled, false},
		"B3, ids, 0":                  {http.Header{"B3": {ids + "-0"}}, notSampled, true},
		"B3, ids, 0, parent":          {http.Header{"B3": {ids + "-0-05e3ac9a4f6e3b90"}}, notSampled, true},
		"B3, ids, 1":                  {http.Header{"B3": {ids + "-1"}}, sampled, true},
		"B3, ids, d":                  {http.Header{"B3": {ids + "-d"}}, sampled, true},
		"B3, ids":                     {http.Header{"B3": {ids}}, undecided, true},
		"B3, garbage":                 {http.Header{"B3": {"garbage"}}, undecided, false},
		"B3, half a span":             {http.Header{"B3": {testTrace + "-00f067aa"}}, undecided, false},
		"several, sampled":            {several("X-B3-Sampled", "1"), sampled, true},
		"several, true":               {several("X-B3-Sampled", "true"), sampled, true},
		"several, debug":              {several("X-B3-Flags", "1"), sampled, true},
		"several, not sampled":        {several("X-B3-Sampled", "0"), notSampled, true},
		"several, false":              {several("X-B3-Sampled", "false"), notSampled, true},
		"several, undecided":          {several(), undecided, true},
		"several, no ids":             {http.Header{"X-B3-Sampled": {"0"}}, notSampled, false},
		"several, garbage for an id":  {several("X-B3-Traceid", "garbage", "X-B3-Sampled", "0"), notSampled, false},
		"W3C, sampled":                {http.Header{"Traceparent": {parent01}}, sampled, true},
		"W3C, not sampled":            {http.Header{"Traceparent": {parent00}}, notSampled, true},
		"W3C, another flag":           {http.Header{"Traceparent": {parent00[:53] + "02"}}, notSampled, true},
		"W3C, B3 garbage":             {http.Header{"Traceparent": {parent01}, "B3": {"garbage"}}, sampled, true},
		"W3C twice":                   {http.Header{"Traceparent": {parent01, parent01}}, undecided, false},
		"W3C, a span of zeros":        {http.Header{"Traceparent": {"00-" + testTrace + "-0000000000000000-01"}}, undecided, false},
		"ids of W3C, decision of B3":  {http.Header{"Traceparent": {parent01}, "B3": {"0"}}, notSampled, true},
		"ids of B3, decision of W3C":  {http.Header{"Traceparent": {parent00}, "B3": {ids}}, notSampled, true},
		"B3 before W3C, not sampled":  {http.Header{"Traceparent": {parent01}, "B3": {ids + "-0"}}, notSampled, true},
		"several before W3C, sampled": {several("Traceparent", parent00, "X-B3-Sampled", "1"), sampled, true},
	} {
		t.Run(name, func(t *testing.T) {
			caller, said := fromHeader(c.header)
			require.Equal(t, c.said, said)
			require.Equal(t, c.said == sampled, caller.span.IsSampled())
			require.Equal(t, c.hasSpan, caller.hasSpan())
			if c.hasSpan {
				require.Equal(t, testTrace, caller.span.TraceID.String())
				require.Equal(t, testSpan, caller.span.SpanID.String())
			}
		})
	}
}

// FuzzTraceHeaders: whatever the headers are, what is read of them can be written down and read again.
func FuzzTraceHeaders(f *testing.F) {
	f.Add(testTrace+"-"+testSpan+"-1-05e3ac9a4f6e3b90", "", "", "", "", "", "")
	f.Add("d", testTrace, testSpan, "1", "1", parent01, "a=b")
	f.Fuzz(func(t *testing.T, single, id, span, flag, flags, parent, state string) {
		caller, _ := fromHeader(http.Header{
			"B3": {single}, "X-B3-Traceid": {id}, "X-B3-Spanid": {span}, "X-B3-Sampled": {flag}, "X-B3-Flags": {flags},
			"Traceparent": {parent}, "Tracestate": {state},
		})
		if caller.hasSpan() {
			again, ok := parseContext(caller.String())
			require.True(t, ok)
			require.Equal(t, caller, again)
			require.Equal(t, caller.span.IsSampled(), Sampled(caller.String()))
		}
	})
}

// TestTracestate is passed on unread, with the trace that it belongs to.
func TestTracestate(t *testing.T) {
	const state = "rojo=00f067aa0ba902b7,1tenant@vendor=a b"
	with := func(state ...string) http.Header {
		return http.Header{"Traceparent": {parent00}, "Tracestate": state}
	}
	withB3 := func(b3 string) http.Header {
		h := with(state)
		h.Set("B3", b3)
		return h
	}
	for name, c := range map[string]struct {
		header http.Header
		want   string
	}{
		"in one":       {with(state), state},
		"in several":   {with(strings.Split(state, ",")...), state},
		"beside B3":    {withB3(testTrace + "-05e3ac9a4f6e3b90-0"), state},
		"of another":   {withB3("563ac35c9f6413ad48485a3953bb6124-" + testSpan), ""},
		"of none":      {http.Header{"Tracestate": {state}}, ""},
		"too long":     {with("a=" + strings.Repeat("x", maxTracestate)), ""},
		"not of ASCII": {with("a=\xff"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			caller, _ := fromHeader(c.header)
			require.Equal(t, c.want, caller.state)
		})
	}
}

// onward is the way of a trace through the service: from a request's header, through the inbox, to
// the header of a fetch.
func onward(t *testing.T, h http.Header) (written string, fetch Span, out http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/callback", nil)
	r.Header = h
	Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		written = Propagated(r.Context())
	})).ServeHTTP(httptest.NewRecorder(), r)
	ctx, span := Continue(context.Background(), written, "dispatch", Internal)
	span.End()
	ctx, fetch = Continue(context.Background(), Propagated(ctx), "fetch", Client)
	defer fetch.End()
	r = httptest.NewRequest(http.MethodGet, "/objects/1", nil).WithContext(ctx)
	_, err := Transport(roundTripper(func(r *http.Request) { out = r.Header })).RoundTrip(r)
	require.NoError(t, err)
	require.Empty(t, r.Header, "a RoundTripper must not change the request")
	return written, fetch, out
}

type roundTripper func(*http.Request)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	f(r)
	return &http.Response{}, nil
}

// TestPropagation: what a sender decided goes on to the source, in B3 and W3C headers; what it left
// open is decided here, but only while spans are exported.
func TestPropagation(t *testing.T) {
	for name, c := range map[string]struct {
		header      http.Header
		off, on, p0 string // the flag that goes on: while nothing is exported, with a probability of 1, and of 0
	}{
		"sampled":             {http.Header{"Traceparent": {parent01}}, "1", "1", "1"},
		"not sampled":         {http.Header{"Traceparent": {parent00}}, "0", "0", "0"},
		"not sampled, no ids": {http.Header{"B3": {"0"}}, "0", "0", "0"},
		"undecided":           {http.Header{"B3": {testTrace + "-" + testSpan}}, "", "1", "0"},
		"no headers":          {http.Header{}, "", "1", "0"},
	} {
		check := func(name, want string) {
			t.Run(name, func(t *testing.T) {
				header := c.header.Clone()
				header.Set("Tracestate", "a=b")
				written, fetch, out := onward(t, header)
				if want == "" {
					require.Empty(t, written)
					require.Empty(t, out)
					return
				}
				require.Equal(t, want == "1", Sampled(written))
				require.Equal(t, want == "1" && exporting.Load(), fetch.Sampled())
				id, span := out.Get("X-B3-TraceId"), out.Get("X-B3-SpanId")
				require.Equal(t, want, out.Get("X-B3-Sampled"))
				require.Equal(t, "00-"+id+"-"+span+"-0"+want, out.Get("Traceparent"))
				if c.header.Get("B3") != "0" && len(c.header) > 0 {
					require.Equal(t, testTrace, id)
				}
				if c.header.Get("Traceparent") != "" {
					require.Equal(t, "a=b", out.Get("Tracestate"))
				}
				if fetch.Sampled() {
					require.Equal(t, fetch.s.SpanContext().SpanID.String(), span)
				} else if want == "1" {
					require.Equal(t, testSpan, span, "the sender's, for no other will be seen")
				}
			})
		}
		check(name+", off", c.off)
		t.Run("exporting", func(t *testing.T) {
			export(t, 1, 0)
			check(name, c.on)
			SetTraceProbability(0)
			check(name+", probability 0", c.p0)
		})
	}
}

// TestContinue: a span that was written down goes on in another place, and one that was not sampled
// does not.
func TestContinue(t *testing.T) {
	export(t, 1, 0)
	for _, none := range []string{"", "nonsense", parent00} {
		ctx, s := Continue(context.Background(), none, "none", Internal)
		require.False(t, s.Sampled())
		s.Set("a", "b")
		s.Fail(io.EOF)
		s.End()
		require.False(t, Current(ctx).Sampled())
		require.False(t, Sampled(Propagated(ctx)))
	}
	ctx, first := Continue(context.Background(), parent01+" a=b,c=d e", "first", Internal)
	next, second := Continue(context.Background(), Propagated(ctx), "second", Client)
	require.Equal(t, testTrace, second.TraceID())
	require.NotEqual(t, first.s.SpanContext().SpanID, second.s.SpanContext().SpanID)
	require.True(t, strings.HasSuffix(Propagated(next), " a=b,c=d e"))
}

// TestCeilingIsPassedOn: a trace that is one too many is not asked of the source either.
func TestCeilingIsPassedOn(t *testing.T) {
	export(t, 1, 1)
	_, fetch, out := onward(t, http.Header{"Traceparent": {parent01}})
	require.True(t, fetch.Sampled())
	require.Equal(t, "1", out.Get("X-B3-Sampled"))
	written, fetch, out := onward(t, http.Header{"Traceparent": {parent01}})
	require.False(t, fetch.Sampled())
	require.Equal(t, "0", out.Get("X-B3-Sampled"))
	require.False(t, Sampled(written))
}
