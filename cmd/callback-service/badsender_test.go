package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// brackets is a body of opening brackets, made as it is read.
type brackets struct{}

func (brackets) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '['
	}
	return len(p), nil
}

// TestHugeBodies: whatever is posted, the service takes no more memory, and an ordinary client gets its answer.
func TestHugeBodies(t *testing.T) {
	s := sturdy(t)
	const memory = "go_memstats_sys_bytes" // never goes down, so that it tells of the peak; the resident memory has the race detector's in it
	before := s.metric(memory)
	for name, length := range map[string]int64{"with its length": 100 << 20, "in chunks": -1} {
		t.Run(name, func(t *testing.T) {
			var senders sync.WaitGroup
			for range 4 {
				senders.Go(func() {
					status, err := s.postHuge(length)
					switch {
					case err == nil && status != http.StatusRequestEntityTooLarge:
						t.Errorf("status %d", status)
					case err != nil && !cutOff(err):
						t.Error(err)
					}
				})
			}
			senders.Wait()
		})
	}
	require.Less(t, s.metric(memory)-before, float64(64<<20))
	require.Equal(t, 8.0, s.metric(`callback_rejected_total{code="body_too_large"}`))

	response, err := client.Post(s.public+"/callback", "application/json", io.LimitReader(brackets{}, 3<<20))
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
}

// postHuge posts 100 MiB. A sender of so much may be cut off before it looks for its answer.
func (s *service) postHuge(length int64) (int, error) {
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.public+"/callback", io.LimitReader(brackets{}, 100<<20))
	if err != nil {
		return 0, err
	}
	r.ContentLength = length
	response, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// cutOff reports whether err is that of a connection which the other side closed.
func cutOff(err error) bool {
	var e *net.OpError
	return errors.As(err, &e) && !e.Timeout() || errors.Is(err, io.EOF)
}

// TestSlowSenders: nobody holds a connection longer than the read timeout by sending slowly, or nothing.
func TestSlowSenders(t *testing.T) {
	const limit = 500 * time.Millisecond
	s := sturdy(t, "--web-read-timeout="+limit.String())
	for name, c := range map[string]struct {
		begin, drip string // drip is repeated until the service is tired of it
		status      string // of the answer; empty: there need be none
	}{
		"nothing":                  {"", "", ""},
		"half a request line":      {"POST /call", "", ""},
		"half a header":            {"POST /callback HTTP/1.1\r\nHost: x\r\nX-", "", ""},
		"a header for ever":        {"POST /callback HTTP/1.1\r\nHost: x\r\nX-", "x", ""},
		"no body":                  {"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n", "", "400"},
		"half a body":              {"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{\"obj", "", "400"},
		"a body for ever":          {"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", " ", "400"},
		"chunks for ever":          {"POST /callback HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", "400"},
		"a refused body for ever":  {"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", " ", "413"},
		"a body that nobody reads": {"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", " ", "404"},
		"headers, asked, silence":  {"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\nExpect: 100-continue\r\n\r\n", "", "100"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now() // before the service can have begun to count
			conn := s.dial()
			cut := make(chan struct{})
			defer close(cut)
			go func() { // ends when the service has cut the connection
				_, err := io.WriteString(conn, c.begin)
				for tick := time.NewTicker(20 * time.Millisecond); c.drip != "" && err == nil; {
					select {
					case <-tick.C:
						_, err = io.WriteString(conn, c.drip)
					case <-cut:
						return
					}
				}
			}()
			answer, err := io.ReadAll(conn)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection was not cut")
			took := time.Since(began)
			if c.status != "413" && c.status != "404" {
				require.GreaterOrEqual(t, took, limit)
			}
			require.Less(t, took, 10*time.Second) // some multiple, for a busy machine
			if c.status == "" && len(answer) == 0 {
				return
			}
			require.Regexp(t, "^HTTP/1.1 "+cmp.Or(c.status, "400"), string(answer))
		})
	}
}

// TestSlowReader: who asks much and reads nothing is cut off after the write timeout.
func TestSlowReader(t *testing.T) {
	s := sturdy(t, "--web-write-timeout=1s")
	conn := s.dial()
	ask := strings.Repeat(request("GET", "/v1/objects/x", ""), 100)
	for {
		if _, err := io.WriteString(conn, ask); err != nil {
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection was not cut")
			break
		}
	}
}

// TestSendersThatLeave: connections that end anywhere in a request.
func TestSendersThatLeave(t *testing.T) {
	s := sturdy(t)
	whole := request("POST", "/callback", plainBody)
	for cut := range len(whole) {
		conn := s.dial()
		require.NoError(t, conn.SetLinger(0)) // a reset, not an end
		_, err := io.WriteString(conn, whole[:cut])
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		if statuses := s.exchange(whole[:cut]); len(statuses) > 0 {
			require.Equal(t, []int{400}, statuses, cut)
		}
	}
	s.waitsForNothing()
	require.NotContains(t, s.log.String(), "level=ERROR", "what senders do to their connections is no error of ours")
}

// TestRateLimitOfSenders: over the limit a sender is told when to come back; reading is free.
func TestRateLimitOfSenders(t *testing.T) {
	s := start(t, t.TempDir(), "--web-rate=0.01", "--web-burst=2")
	for i, want := range []string{`"default";r=1;t=100`, `"default";r=0;t=100`, `"default";r=0;t=100`} {
		response, err := client.Post(s.public+"/v1/callbacks", "application/json", strings.NewReader(plainBody))
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, `"default";q=2;w=200`, response.Header.Get("RateLimit-Policy"))
		require.Equal(t, want[:13], response.Header.Get("RateLimit")[:13])
		require.Equal(t, map[bool]int{true: 202, false: 429}[i < 2], response.StatusCode)
		if i == 2 {
			require.Regexp(t, `^(100|9\d)$`, response.Header.Get("Retry-After"))
		}
	}
	require.Equal(t, []int{429, 429}, s.exchange(strings.Repeat(request("POST", "/callback", plainBody), 2)), "one limit for both paths")
	require.Equal(t, 3.0, s.metric(`callback_rejected_total{code="rate_limited"}`))
	for range 10 {
		require.Equal(t, http.StatusOK, get(s.public+"/v1/objects", nil))
	}
	conn := s.dial()
	_, err := fmt.Fprint(conn, request("GET", "/livez", ""))
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Empty(t, response.Header.Get("RateLimit"))
}
