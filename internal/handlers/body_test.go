package handlers_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/handlers"
)

// TestLargeBodies: the answer comes before the body has.
func TestLargeBodies(t *testing.T) {
	s := newService(t)
	for name, head := range map[string]string{
		"by its length": "Content-Length: 1000000000\r\n\r\n",
		"by its chunks": "Transfer-Encoding: chunked\r\n\r\n200000\r\n" + strings.Repeat("[", 0x200000),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
			go func() { // ends when the connection is closed
				_, _ = io.WriteString(conn, "POST /callback HTTP/1.1\r\nHost: x\r\n"+head)
			}()
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer response.Body.Close()
			require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
			require.True(t, response.Close, "the rest of the body is not read")
		})
	}
}

// TestLargeBodyIsTakenIn: a sender that writes its whole body before it reads an answer gets the 413 all the same.
func TestLargeBodyIsTakenIn(t *testing.T) {
	s := newService(t)
	const size = 3 << 20
	body := strings.Repeat("[", size)
	for name, head := range map[string]string{
		"by its length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", size, body),
		"by its chunks": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, body),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.(*net.TCPConn).SetWriteBuffer(64<<10))
			_, err = io.WriteString(conn, "POST /callback HTTP/1.1\r\nHost: x\r\n"+head)
			require.NoError(t, err)
			answer, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(answer), "HTTP/1.1 413 "), string(answer))
		})
	}
	s.t = t
	s.problem(s.post(body), http.StatusRequestEntityTooLarge, callback.BodyTooLarge)
}

// TestLargeBodyIsLeft: whatever a sender does, a refused body holds its handler for a second at most.
func TestLargeBodyIsLeft(t *testing.T) {
	left := make(chan time.Duration, 1)
	s := newService(t, func(a *handlers.API) {
		a.Around.Callbacks = []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				began := time.Now()
				next.ServeHTTP(w, r)
				left <- time.Since(began)
			})
		}}
	})
	for name, c := range map[string]struct {
		head      string
		send      int64
		at, above time.Duration
	}{
		"sends nothing":           {"Content-Length: 1000000000", 0, time.Second, 0},
		"waits to be asked":       {"Content-Length: 1000000000\r\nExpect: 100-continue", 0, 0, time.Second},
		"sends without an end":    {"Content-Length: 1000000000", 1 << 30, 0, time.Second},
		"chunks without an end":   {"Transfer-Encoding: chunked", 1 << 30, 0, time.Second},
		"asked, and sends chunks": {"Transfer-Encoding: chunked\r\nExpect: 100-continue", 1 << 30, 0, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
			require.NoError(t, err)
			defer conn.Close()
			go func() { // ends when the connection is closed
				_, _ = io.WriteString(conn, "POST /callback HTTP/1.1\r\nHost: x\r\n"+c.head+"\r\n\r\n")
				if strings.HasPrefix(c.head, "Transfer") {
					_, _ = io.WriteString(conn, "40000000\r\n")
				}
				_, _ = io.CopyN(conn, endless{}, c.send)
			}()
			took := <-left
			require.GreaterOrEqual(t, took, c.at)
			require.Less(t, took, 3*time.Second) // a second, and what a busy machine adds
			if c.above > 0 {
				require.Less(t, took, c.above)
			}
		})
	}
}

// endless is a body of opening brackets.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '['
	}
	return len(p), nil
}

func TestBodyThatEndsEarly(t *testing.T) {
	s := newService(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{\"object_ids\":[1]")
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	require.Zero(t, s.inbox.Stats().Callbacks)
}
