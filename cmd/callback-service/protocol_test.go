package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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
