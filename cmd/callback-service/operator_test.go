package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"callback-service/internal/events"
)

// TestOperatorTimeLimits: a request has --web-read-timeout to arrive; what arrived in time is answered
// for as long as it takes.
func TestOperatorTimeLimits(t *testing.T) {
	const limit = 200 * time.Millisecond
	p := newPair(t)
	for name, flags := range map[string][]string{"plain": nil, "TLS": {"--web-tls-cert=" + p.cert, "--web-tls-key=" + p.key}} {
		t.Run(name, func(t *testing.T) {
			s := start(t, t.TempDir(), append(flags, "--web-read-timeout="+limit.String(), "--source-url="+newSource(t).URL)...)
			address := strings.TrimPrefix(s.operator, "http://")
			dial, base := func() (net.Conn, error) { return net.Dial("tcp", address) }, s.operator
			browser := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: p.trusted}}}
			defer browser.CloseIdleConnections()
			if flags != nil {
				dial, base = func() (net.Conn, error) { return p.dial(address, &tls.Config{}) }, "https://"+address
			}
			for _, slow := range []string{
				"POST /admin/dead-letters/drop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
				"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{", // nobody reads it
				"GET /livez HTTP/1.1\r\nHost: local",
			} {
				conn, err := dial()
				require.NoError(t, err)
				defer conn.Close()
				_, err = io.WriteString(conn, slow)
				require.NoError(t, err)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience/4)))
				_, err = io.ReadAll(conn)
				require.NoError(t, err, "the connection is not closed: %s", slow)
			}

			conn, _, err := websocket.Dial(t.Context(), base+"/v1/events?type=stats", &websocket.DialOptions{HTTPClient: browser})
			require.NoError(t, err)
			defer conn.CloseNow()
			began := time.Now()
			response, err := browser.Get(base + "/debug/pprof/profile?seconds=1")
			require.NoError(t, err)
			profile, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			require.Equal(t, http.StatusOK, response.StatusCode, "%s", profile)
			require.GreaterOrEqual(t, time.Since(began), time.Second, "the profile was cut short")
			for range 3 { // one a second
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				_, text, err := conn.Read(ctx)
				cancel()
				require.NoError(t, err)
				require.Contains(t, string(text), string(events.Stats))
			}
			require.NoError(t, s.stop())
		})
	}
}

// TestOperatorTLS: the certificate serves both listeners, and the commands follow; --web-debug-plain
// keeps the operator listener as it was.
func TestOperatorTLS(t *testing.T) {
	p, other := newPair(t), newPair(t)
	files := []string{"--web-tls-cert=" + p.cert, "--web-tls-key=" + p.key, "--source-url=" + newSource(t).URL}
	s := start(t, t.TempDir(), append(files, "--web-debug-token=t0ken")...)
	address := strings.TrimPrefix(s.operator, "http://")
	token := "CALLBACK_WEB_DEBUG_TOKEN=t0ken"
	same := []string{token, "CALLBACK_WEB_TLS_CERT=" + p.cert, "CALLBACK_WEB_TLS_KEY=" + p.key} // the environment of the service
	for _, command := range [][]string{{"health"}, {"dead-letters", "list"}} {
		run := func(env []string, flags ...string) (string, error) {
			return cli(t, "", env, append(command, flags...)...)
		}
		for _, works := range [][]string{{"--address=https://" + address}, {"--address=https://" + address, "--ca=" + p.cert}} {
			out, err := run([]string{token}, works...)
			require.NoError(t, err, out)
		}
		out, err := run(same, "--address="+address)
		require.NoError(t, err, out)
		out, err = run([]string{token}, "--address=https://"+address, "--ca="+other.cert)
		require.Error(t, err)
		require.Contains(t, out, "certificate")
		out, err = run([]string{token}, "--address=https://"+address, "--ca="+other.key)
		require.Error(t, err)
		require.Contains(t, out, "--ca "+other.key)
		_, err = run([]string{token}, "--address="+address)
		require.Error(t, err, "http:// to a listener with TLS")
	}
	require.NoError(t, s.stop())

	s = start(t, t.TempDir(), append(files, "--web-debug-plain")...)
	require.Equal(t, http.StatusOK, get(s.operator+"/livez", nil))
	out, err := cli(t, "", append(same, "CALLBACK_WEB_DEBUG_PLAIN=true"), "health", "--address="+strings.TrimPrefix(s.operator, "http://"))
	require.NoError(t, err, out)
	require.NoError(t, s.stop())
}

func TestOperatorURL(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:6060": "http://127.0.0.1:6060", "0.0.0.0:6060": "http://127.0.0.1:6060", ":6060": "http://127.0.0.1:6060", "[::]:6060": "http://127.0.0.1:6060",
		"host:6060": "http://host:6060", "https://host:6060/": "https://host:6060", "http://0.0.0.0:6060": "http://0.0.0.0:6060",
	} {
		require.Equal(t, want, operatorURL(address), address)
	}
	t.Setenv("CALLBACK_WEB_TLS_CERT", "tls.crt")
	require.Equal(t, "https://host:6060", operatorURL("host:6060"))
	t.Setenv("CALLBACK_WEB_DEBUG_PLAIN", "true")
	require.Equal(t, "http://host:6060", operatorURL("host:6060"))
}
