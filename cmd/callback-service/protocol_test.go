package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
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
