package main

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTwoLengths: the connection of a request with both a Content-Length and a Transfer-Encoding is
// closed after the answer (RFC 9112, 6.1), so that what follows is nobody's request.
func TestTwoLengths(t *testing.T) {
	p := newPair(t)
	plain := start(t, t.TempDir())
	overTLS := start(t, t.TempDir(), "--web-tls-cert="+p.cert, "--web-tls-key="+p.key)
	const chunks = "11\r\n" + plainBody + "\r\n0\r\n\r\n"
	both := func(line string, more ...string) string {
		header := append(more, "Host: x", fmt.Sprintf("Content-Length: %d", len(chunks)), "Transfer-Encoding: chunked")
		return line + "\r\n" + strings.Join(header, "\r\n") + "\r\n\r\n" + chunks
	}
	next := request("GET", "/livez", "")
	for name, c := range map[string]struct {
		request string
		answers []int
	}{
		"one":                {request("POST", "/callback", plainBody), []int{202, 200}},
		"two":                {both("POST /callback HTTP/1.1"), []int{202}},
		"two, one wrong":     {post("Transfer-Encoding: chunked\r\ncontent-length: 4", chunks), []int{202}},
		"two, refused":       {both("POST /callback HTTP/1.1", "Content-Type: text/plain"), []int{415}},
		"two, to nowhere":    {both("POST /nothing HTTP/1.1"), []int{404}},
		"two, to the server": {both("OPTIONS * HTTP/1.1"), []int{404}},
		"two, of HTTP/1.0":   {both("POST /callback HTTP/1.0", "Connection: keep-alive"), []int{400}}, // by the length
		"two, of HTTP/1.2":   {both("POST /callback HTTP/1.2"), []int{202}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.answers, plain.exchange(c.request+next))
			conn, err := p.dial(strings.TrimPrefix(overTLS.public, "http://"), &tls.Config{})
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			_, err = io.WriteString(conn, c.request+next)
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			require.Equal(t, c.answers, overTLS.answers(bufio.NewReader(conn)))
		})
	}
}

// TestFeedOverHTTP2: a WebSocket needs HTTP/1.1, and a client that asks over HTTP/2 is told so.
func TestFeedOverHTTP2(t *testing.T) {
	p := newPair(t)
	s := start(t, t.TempDir(), "--web-tls-cert="+p.cert, "--web-tls-key="+p.key)
	browser := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: p.trusted},
	}}
	defer browser.CloseIdleConnections()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.public, "http://"))
	require.NoError(t, err)
	response, err := browser.Get("https://127.0.0.1:" + port + "/v1/events")
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "HTTP/2.0", response.Proto)
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
	for _, forbidden := range []string{"Connection", "Upgrade"} { // RFC 9113, 8.2.2
		require.Empty(t, response.Header.Get(forbidden))
	}
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `"code":"invalid_parameter"`)
}

// TestSamplingOfSenders: what a sender decided of its trace holds, through the inbox and a kill,
// and goes on to the source. What it left open is decided by --trace-probability, when there is
// somewhere to send traces to.
func TestSamplingOfSenders(t *testing.T) {
	const id, span, state = "463ac35c9f6413ad48485a3953bb612", "-00f067aa0ba902b7", "rojo=1,congo=t61rcWkgMzE"
	senders := []struct {
		header    []string // an id is id and the number of the sender
		flag      string   // that goes out
		collected string   // the same while there is a collector, where that differs
	}{
		0: {[]string{"Traceparent", "00-" + id + "0" + span + "-01", "Tracestate", state}, "1", ""},
		1: {[]string{"Traceparent", "00-" + id + "1" + span + "-00", "Tracestate", state}, "0", ""},
		2: {[]string{"B3", id + "2" + span + "-0"}, "0", ""},
		3: {[]string{"X-B3-TraceId", id + "3", "X-B3-SpanId", span[1:], "X-B3-Sampled", "0"}, "0", ""},
		4: {[]string{"X-B3-Sampled", "0"}, "0", ""},
		5: {[]string{"B3", "0"}, "0", ""},
		6: {[]string{"B3", id + "6" + span}, "", "1"},
		7: {nil, "", "1"},
	}
	for _, collected := range []bool{false, true} {
		t.Run(fmt.Sprintf("collected=%t", collected), func(t *testing.T) {
			var asked sync.Map // path → header
			source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Store(r.URL.Path, r.Header)
				fmt.Fprintf(w, `{"id":%s,"online":true}`, path.Base(r.URL.Path))
			}))
			t.Cleanup(source.Close)
			z, dir, args := newZipkin(t), t.TempDir(), []string{"--source-url=" + source.URL}
			if collected {
				args = append(args, "--trace-url="+z.URL+"/api/v2/spans")
			}
			s := start(t, dir, args...)
			status, answer := s.patch(`{"paused":true}`)
			require.Equal(t, http.StatusOK, status, answer)
			var callbacks []string
			for i, sender := range senders {
				body := fmt.Sprintf(`{"object_ids":[%d]}`, i)
				status, location, answer := s.ask(http.MethodPost, "/callback", body, sender.header...)
				require.Equal(t, http.StatusAccepted, status, answer)
				callbacks = append(callbacks, path.Base(location))
			}
			s.kill()
			s = start(t, dir, args...)
			for _, c := range callbacks {
				s.done(c)
			}
			require.NoError(t, s.stop(), "the last spans are sent")

			for i, sender := range senders {
				got, ok := asked.Load(fmt.Sprintf("/objects/%d", i))
				require.True(t, ok)
				h, want := got.(http.Header), sender.flag
				if collected {
					want = cmp.Or(sender.collected, want)
				}
				trace := h.Get("X-B3-TraceId")
				require.Equal(t, want, h.Get("X-B3-Sampled"), i)
				if want == "" {
					require.Empty(t, h.Get("Traceparent"), i)
					continue
				}
				require.Equal(t, "00-"+trace+"-"+h.Get("X-B3-SpanId")+"-0"+want, h.Get("Traceparent"), i)
				if sent := strings.Join(sender.header, " "); strings.Contains(sent, id) {
					require.Equal(t, fmt.Sprint(id, i), trace)
				}
				require.Equal(t, i < 2, h.Get("Tracestate") == state, i)
				_, seen := z.named("fetch", trace)
				require.Equal(t, collected && want == "1", seen, i)
			}
		})
	}
}
