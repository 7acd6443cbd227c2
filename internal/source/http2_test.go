package source

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

func withHTTP2(s *httptest.Server) { s.EnableHTTP2 = true }

// TestReasonsOnHTTP2: a connection is shared there, and says other things when it fails.
func TestReasonsOnHTTP2(t *testing.T) {
	url, ca := secure(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path[len("/objects/"):] {
		case "1":
			silent(w, r)
		case "2":
			half(w, r)
		case "3":
			_, _ = io.WriteString(w, `{"id":3,`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "4":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1000))
			}
		case "5":
			w.WriteHeader(http.StatusNotFound)
		}
	}, withHTTP2)
	c := newClient(t, url, func(o *Options) { o.CAFile, o.Timeout = ca, 300*time.Millisecond })
	for id, want := range map[int64]callback.Reason{1: callback.ReasonTimeout, 2: callback.ReasonTimeout, 3: callback.ReasonBroken, 4: callback.ReasonTooLarge} {
		_, err := c.Fetch(t.Context(), id)
		require.Equal(t, want, failure(t, err).Reason, "%d: %v", id, err)
	}
	_, err := c.Fetch(t.Context(), 5)
	require.ErrorIs(t, err, callback.ErrMissing)
}

// wire passes bytes between clients and a server, until it is cut: then what is connected hears no more, not even an end. New connections work.
type wire struct {
	cut atomic.Pointer[chan struct{}] // closed: connections made before hear no more
}

func (w *wire) between(t *testing.T, server string) (address string) {
	alive := make(chan struct{})
	w.cut.Store(&alive)
	return bare(t, func(conn net.Conn) {
		cut := *w.cut.Load()
		up, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		var down sync.WaitGroup
		pass := func(to, from net.Conn) {
			buffer := make([]byte, 8192)
			for {
				n, err := from.Read(buffer)
				if err != nil {
					return
				}
				select {
				case <-cut:
				default:
					_, _ = to.Write(buffer[:n])
				}
			}
		}
		down.Go(func() { pass(conn, up) })
		pass(up, conn) // until the client closes, which it must find out to do by itself
		_ = up.Close()
		down.Wait()
	})
}

// TestSilentlyDeadConnection: on HTTP/2 every fetch goes over the one connection, so that one that died unheard would be the end of them all.
func TestSilentlyDeadConnection(t *testing.T) {
	url, ca := secure(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id":1,"online":true}`) }, withHTTP2)
	var w wire
	address := w.between(t, strings.TrimPrefix(url, "https://"))
	c := newClient(t, "https://"+address, func(o *Options) { o.CAFile, o.Timeout = ca, 250*time.Millisecond })
	_, err := c.Fetch(t.Context(), 1)
	require.NoError(t, err)

	fresh := make(chan struct{})
	close(*w.cut.Swap(&fresh))
	_, err = c.Fetch(t.Context(), 1)
	require.Equal(t, callback.ReasonTimeout, failure(t, err).Reason, "%v", err)
	for range 10 {
		if _, err = c.Fetch(t.Context(), 1); err == nil {
			break
		}
	}
	require.NoError(t, err, "it stays with the dead connection")
}
