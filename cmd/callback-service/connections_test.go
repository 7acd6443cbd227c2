package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTooManyConnections: a new connection takes the place of the one that has been idle the longest, and where none
// is idle it is closed.
func TestTooManyConnections(t *testing.T) {
	s := start(t, t.TempDir(), "--web-max-connections=3", "--web-read-timeout=1m")
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	isOpen := func(conn net.Conn) bool {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
		_, err := conn.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	exchange := func(conn net.Conn, request, status string) {
		t.Helper()
		_, err := io.WriteString(conn, request)
		require.NoError(t, err)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		answer := make([]byte, 4096)
		n, err := conn.Read(answer)
		require.NoError(t, err)
		require.Contains(t, string(answer[:n]), status)
	}
	ask := func(conn net.Conn) {
		t.Helper()
		exchange(conn, request("GET", "/livez", ""), "200 OK")
	}
	first, second, third := dial(), dial(), dial()
	ask(second)
	ask(first)
	ask(third)
	fourth := dial()
	ask(fourth)
	s.eventually("the second was idle the longest", func() bool { return !isOpen(second) })
	require.True(t, isOpen(first) && isOpen(third))

	for _, conn := range []net.Conn{first, third, fourth} {
		exchange(conn, "POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n", "100 Continue")
	}
	fifth := dial()
	require.NoError(t, fifth.SetReadDeadline(time.Now().Add(patience)))
	_, err := fifth.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "none is idle, so that the new one is closed")
	require.NoError(t, first.Close())
	s.eventually("there is room again", func() bool { return get(s.public+"/livez", nil) == http.StatusOK })
}
