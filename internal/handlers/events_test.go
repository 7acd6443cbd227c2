package handlers_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
	"callback-service/internal/events"
	"callback-service/internal/handlers"
)

// event is what a watcher reads.
type event struct {
	Type       string    `json:"type"`
	At         time.Time `json:"at"`
	CallbackID string    `json:"callback_id"`
	Sender     string    `json:"sender"`
	ObjectID   int64     `json:"object_id"`
	Objects    int       `json:"objects"`
}

func (s *service) watch(base, query string, header ...string) *websocket.Conn {
	s.t.Helper()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	url := base + "/v1/events" + query
	conn, response, err := websocket.Dial(s.t.Context(), url, &websocket.DialOptions{HTTPHeader: h})
	require.NoError(s.t, err)
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, nil)
	require.NoError(s.t, err)
	described.see(s.t, r, response, nil)
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func (s *service) next(conn *websocket.Conn) (e event) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	_, text, err := conn.Read(ctx)
	require.NoError(s.t, err)
	require.NoError(s.t, json.Unmarshal(text, &e), "%s", text)
	described.holdEvent(s.t, text)
	return e
}

func TestEvents(t *testing.T) {
	s := newService(t)
	public, operator := s.watch(s.public, ""), s.watch(s.operator, "?type=callback.accepted,stats&type=dead_letter")
	require.Equal(t, http.StatusAccepted, s.post(`{"object_ids":[1,2,2],"tag":"t"}`).StatusCode)
	for _, conn := range []*websocket.Conn{public, operator} {
		e := s.next(conn)
		require.Equal(t, "callback.accepted", e.Type)
		require.True(t, callback.ValidID(e.CallbackID))
		require.Equal(t, 2, e.Objects)
		require.WithinDuration(t, time.Now(), e.At, time.Minute)
	}
	require.Equal(t, http.StatusAccepted, s.post(`{"object_ids":[1]}`, "Idempotency-Key", "k").StatusCode)
	require.Equal(t, http.StatusAccepted, s.post(`{"object_ids":[1]}`, "Idempotency-Key", "k").StatusCode)
	require.Equal(t, "callback.accepted", s.next(public).Type)
	s.api.Events.Publish(events.ObjectStored, "", events.Stored{ObjectID: 7})
	require.EqualValues(t, 7, s.next(public).ObjectID, "a repeat is no event")
	s.api.Events.Publish(events.Stats, "", events.Stored{ObjectID: 8})
	require.Equal(t, "callback.accepted", s.next(operator).Type)
	require.Equal(t, "stats", s.next(operator).Type, "what was not asked for does not come")
	require.Equal(t, "stats", s.next(public).Type)
	s.api.Events.Publish(events.CallbackDone, "", callback.Receipt{CallbackID: "01M"})
	s.api.Events.Publish(events.DeadLetter, "", callback.DeadLetter{ObjectID: 9})
	s.api.Events.Publish(events.ObjectExpired, "", events.Expired{ObjectID: 10, LateMS: 0.5})
	require.Equal(t, "callback.done", s.next(public).Type)
	require.EqualValues(t, 9, s.next(public).ObjectID)
	require.EqualValues(t, 10, s.next(public).ObjectID)
}

// TestEventsOfOneSender: it sees its own callbacks only; an admin sees all.
func TestEventsOfOneSender(t *testing.T) {
	s := newService(t, func(a *handlers.API) {
		a.Around.Public = append(a.Around.Public, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				name := r.Header.Get("Test-Sender")
				next.ServeHTTP(w, r.WithContext(auth.WithSender(r.Context(), auth.Sender{Name: name, Admin: name == "admin"})))
			})
		})
	})
	mine, all := s.watch(s.public, "", "Test-Sender", "a"), s.watch(s.public, "", "Test-Sender", "admin")
	for _, sender := range []string{"b", "a"} {
		require.Equal(t, http.StatusAccepted, s.post(`{"object_ids":[1]}`, "Test-Sender", sender).StatusCode)
		s.api.Events.Publish(events.ObjectStored, sender, events.Stored{ObjectID: 1, Sender: sender})
		s.api.Events.Publish(events.ObjectExpired, "", events.Expired{ObjectID: 1})
		s.api.Events.Publish(events.Stats, "", events.Expired{ObjectID: 1})
	}
	for _, want := range []string{"callback.accepted", "object.stored"} {
		e := s.next(mine)
		require.Equal(t, []string{want, "a"}, []string{e.Type, e.Sender})
	}
	for _, want := range []string{
		"callback.accepted b", "object.stored b", "object.expired ", "stats ", "callback.accepted a", "object.stored a", "object.expired ", "stats ",
	} {
		e := s.next(all)
		require.Equal(t, want, e.Type+" "+e.Sender)
	}
}

// TestSlowWatcher is told why it is dropped; nobody waits for it.
func TestSlowWatcher(t *testing.T) {
	s := newService(t)
	slow := s.watch(s.public, "")
	slow.SetReadLimit(1 << 20)
	letter := callback.DeadLetter{Detail: strings.Repeat("x", 20_000)} // some hundreds of them fill the buffers of a connection
	published := 0
	for s.metric("callback_watchers_dropped_total") == 0 {
		require.Less(t, published, 100_000)
		for range 500 {
			s.api.Events.Publish(events.DeadLetter, "", letter)
			published++
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var err error
	read := 0
	for ; err == nil; read++ {
		_, _, err = slow.Read(ctx)
	}
	var closed websocket.CloseError
	require.ErrorAs(t, err, &closed)
	require.Equal(t, websocket.CloseError{Code: websocket.StatusPolicyViolation, Reason: events.TooSlow}, closed)
	require.Greater(t, read, 1024, "what it was in time for came")
	require.Less(t, read, published+1)
}

// TestWatchersEnd: with the client, and with the service. Nothing is left of either.
func TestWatchersEnd(t *testing.T) {
	s := newService(t)
	gone, crashed, stays := s.watch(s.public, ""), s.watch(s.public, ""), s.watch(s.operator, "")
	require.EqualValues(t, 3, s.metric("callback_watchers"))
	require.NoError(t, gone.Close(websocket.StatusNormalClosure, ""))
	require.NoError(t, crashed.CloseNow())
	require.Eventually(t, func() bool { return s.metric("callback_watchers") == 1 }, 20*time.Second, 10*time.Millisecond)

	chatty := s.watch(s.public, "")
	require.NoError(t, chatty.Write(t.Context(), websocket.MessageText, []byte("hello")))
	_, _, err := chatty.Read(t.Context())
	require.Equal(t, websocket.StatusPolicyViolation, websocket.CloseStatus(err), "there is nothing to tell us")

	done := make(chan error, 1)
	go func() { // ends with the service's goodbye
		_, _, err := stays.Read(t.Context())
		done <- err
	}()
	s.api.Events.Close(10 * time.Second)
	var closed websocket.CloseError
	require.ErrorAs(t, <-done, &closed)
	require.Equal(t, websocket.CloseError{Code: websocket.StatusGoingAway, Reason: events.Closing}, closed)
	require.Zero(t, s.metric("callback_watchers"))
	s.problem(s.upgrade(), http.StatusServiceUnavailable, callback.Unavailable)
}

// upgrade is a request to open a WebSocket, changed by header.
func (s *service) upgrade(header ...string) reply {
	s.t.Helper()
	return s.do(http.MethodGet, s.public+"/v1/events", "", append([]string{
		"Connection", "keep-alive, Upgrade", "Upgrade", "WebSocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
	}, header...)...)
}

func TestBadEventRequests(t *testing.T) {
	s := newService(t)
	require.Contains(t, s.problem(s.get("/v1/events"), http.StatusBadRequest, callback.InvalidParameter), "WebSocket")
	require.Contains(t, s.problem(s.get("/v1/events?type=stats,objects"), http.StatusBadRequest, callback.InvalidParameter), `"objects"`)
	require.Contains(t, s.problem(s.upgrade("Sec-WebSocket-Version", "12"), http.StatusBadRequest, callback.InvalidParameter), "13")
	for _, key := range []string{"", "x", "dGhlIHNhbXBsZQ=="} {
		refused := s.upgrade("Sec-WebSocket-Key", key)
		require.Contains(t, s.problem(refused, http.StatusBadRequest, callback.InvalidParameter), "Sec-WebSocket-Key")
	}
	s.problem(s.upgrade("Origin", "https://elsewhere.example"), http.StatusForbidden, callback.Forbidden)
	s.problem(s.upgrade("Sec-Fetch-Site", "cross-site"), http.StatusForbidden, callback.Forbidden)
	for range 8 {
		s.watch(s.operator, "")
	}
	response := s.do(http.MethodGet, s.operator+"/v1/events", "", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	s.problem(response, http.StatusServiceUnavailable, callback.Overloaded)
	require.NotEmpty(t, response.Header.Get("Retry-After"))
}

// opening is what opens the live feed, with more headers.
func opening(version string, more ...string) string {
	return strings.Join(append([]string{
		"GET /v1/events " + version, "Host: x", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}, more...), "\r\n") + "\r\n\r\n"
}

// raw writes to a connection of its own, and returns it with the answer, for what no client of HTTP
// sends.
func (s *service) raw(request string) (net.Conn, *bufio.Reader, *http.Response) {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	require.NoError(s.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, request)
	require.NoError(s.t, err)
	from := bufio.NewReader(conn)
	response, err := http.ReadResponse(from, nil)
	require.NoError(s.t, err)
	return conn, from, response
}

// TestOpeningsThatFail: whatever is wrong with the opening is told as all else is, and not in plain
// text.
func TestOpeningsThatFail(t *testing.T) {
	s := newService(t)
	for name, request := range map[string]string{
		"a body":   opening("HTTP/1.1", "Content-Length: 2") + "{}",
		"chunks":   opening("HTTP/1.1", "Content-Length: 2", "Transfer-Encoding: chunked") + "0\r\n\r\n",
		"two keys": opening("HTTP/1.1", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
		"HTTP/1.0": opening("HTTP/1.0"),
		"HEAD":     strings.Replace(opening("HTTP/1.1", "Connection: close"), "GET", "HEAD", 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, _, response := s.raw(request)
			defer response.Body.Close()
			require.Equal(t, http.StatusBadRequest, response.StatusCode)
			require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
			require.NotContains(t, response.Header, "Upgrade")
		})
	}
}

// TestUnmaskedFrame: a client must mask what it sends (RFC 6455, 5.1).
func TestUnmaskedFrame(t *testing.T) {
	s := newService(t)
	for name, frame := range map[string]string{
		"text": "\x81\x05hello", "ping": "\x89\x00", "close": "\x88\x02\x03\xe8",
	} {
		t.Run(name, func(t *testing.T) {
			conn, from, response := s.raw(opening("HTTP/1.1"))
			require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
			_, err := io.WriteString(conn, frame)
			require.NoError(t, err)
			var head [4]byte
			_, err = io.ReadFull(from, head[:])
			require.NoError(t, err)
			require.EqualValues(t, 0x88, head[0], "a close frame")
			require.EqualValues(t, websocket.StatusProtocolError, binary.BigEndian.Uint16(head[2:]))
		})
	}
}

// metric reads one series of the operator's /metrics.
func (s *service) metric(series string) (value float64) {
	s.t.Helper()
	for line := range strings.Lines(s.do(http.MethodGet, s.operator+"/metrics", "").body) {
		if n, err := fmt.Sscanf(line, series+" %g", &value); n == 1 && err == nil {
			return value
		}
	}
	s.t.Fatalf("there is no series %s", series)
	return 0
}
