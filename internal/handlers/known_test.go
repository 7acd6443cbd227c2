package handlers_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/handlers"
	"callback-service/internal/simulate/known"
)

// Bodies that never end take no more memory than a budget of 32 MiB, and what comes with them: what does not
// fit is refused.
func TestUnfinishedBodiesHaveABudget(t *testing.T) {
	const (
		senders = 64
		sent    = 1<<20 - 5
		bound   = 48 << 20
	)
	for name, head := range map[string]string{
		"by their length": fmt.Sprintf("Content-Length: %d\r\n\r\n", 1<<20),
		"by their chunks": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", sent),
	} {
		t.Run(name, func(t *testing.T) {
			var taken sync.WaitGroup // bodies: all of what was sent is read, or there is an answer
			taken.Add(senders)
			s := newService(t, func(a *handlers.API) {
				a.Around.All = append(a.Around.All, func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						body := &metered{ReadCloser: r.Body, left: sent, done: sync.OnceFunc(taken.Done)}
						defer body.done()
						r.Body = body
						next.ServeHTTP(w, r)
					})
				})
			})
			request := []byte("POST /callback HTTP/1.1\r\nHost: x\r\n" + head + strings.Repeat("[", sent))
			before := heap()
			for range senders {
				conn, err := net.Dial("tcp", strings.TrimPrefix(s.public, "http://"))
				require.NoError(t, err)
				defer conn.Close()
				go func() { _, _ = conn.Write(request) }() // ends when the connection is closed
			}
			all := make(chan struct{})
			go func() { // ends with the bodies
				taken.Wait()
				close(all)
			}()
			select {
			case <-all:
			case <-time.After(time.Minute):
				t.Fatal("the bodies were neither read nor refused")
			}
			var err error
			if held := heap() - before; held > bound {
				err = fmt.Errorf("%d bodies that are not complete hold %d MiB", senders, held>>20)
			}
			known.Expect(t, 6, err)
		})
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// metered calls done when the last of its bytes is read.
type metered struct {
	io.ReadCloser
	left int
	done func()
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if m.left -= n; m.left <= 0 {
		m.done()
	}
	return n, err
}
