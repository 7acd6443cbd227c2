package handlers_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"callback-service/internal/callback"
	"callback-service/internal/events"
	"callback-service/internal/handlers"
	"callback-service/internal/inbox"
	"callback-service/internal/middleware"
	"callback-service/internal/store"
	"callback-service/internal/store/storetest"
	"callback-service/internal/telemetry"
	"callback-service/internal/web"
)

// TestMain holds openapi.json to what the tests saw, when all of them ran and none failed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(both{m})
}

type both struct{ *testing.M }

func (b both) Run() int {
	code := b.M.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" {
		for _, missing := range described.unseen() {
			fmt.Println("openapi.json describes what no test saw:", missing)
			code = 1
		}
	}
	return code
}

// service is both listeners over a real inbox and a real store; there is no dispatcher, so that callbacks stay where they are.
type service struct {
	t        *testing.T
	api      *handlers.API
	inbox    *inbox.Inbox
	store    *store.Store
	progress progress
	now      atomic.Pointer[time.Time] // of the inbox; nil: the time
	public   string
	operator string
}

// progress stands for the dispatcher's knowledge of its callbacks.
type progress map[string]callback.Receipt

// Drop knows of id 7 only.
func (p progress) Drop(_ context.Context, id int64) (int, error) {
	if id == 7 {
		return 2, nil
	}
	return 0, nil
}

func (p progress) Progress(id string) (callback.Receipt, bool) {
	r, ok := p[id]
	return r, ok
}

func newService(t *testing.T, change ...func(*handlers.API)) *service {
	t.Helper()
	return newServiceOn(t, storetest.SQLite(t), change...)
}

func newServiceOn(t *testing.T, database string, change ...func(*handlers.API)) *service {
	t.Helper()
	s := &service{t: t, progress: progress{}}
	in, err := inbox.Open(filepath.Join(t.TempDir(), "inbox.db"), inbox.Options{
		KeyAge: time.Hour, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time {
			if at := s.now.Load(); at != nil {
				return *at
			}
			return time.Now()
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = in.Close() })
	db, err := store.Open(database, store.Options{ObjectTTL: time.Hour, ReceiptTTL: time.Hour})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	require.NoError(t, db.Migrate(t.Context()))
	s.inbox, s.store = in, db
	metrics := telemetry.NewMetrics(web.Codes(), nil)
	s.api = &handlers.API{
		Inbox: in, Store: db, Progress: s.progress, Metrics: metrics, Log: slog.New(slog.DiscardHandler),
		Events:  events.NewHub(func(n int) { metrics.Watchers.Set(float64(n)) }, metrics.SlowWatchers.Inc),
		Version: "v-test", MaxBody: 1 << 20, MaxIDs: 1000, Bodies: web.NewBodyBudget(web.BudgetFor(1 << 20)),
		Answers: handlers.NewAnswers(64<<10, 1000),
	}
	s.api.Around = handlers.Around{
		All:      []func(http.Handler) http.Handler{middleware.RequestID, middleware.Recover(s.api.Log, metrics.Panics)},
		Operator: []func(http.Handler) http.Handler{middleware.Operator(func() string { return "" })},
	}
	for _, c := range change {
		c(s.api)
	}
	s.public, s.operator = s.listen(s.api.Public()), s.listen(s.api.Operator())
	return s
}

func (s *service) listen(h http.Handler) string {
	server := httptest.NewUnstartedServer(h)
	server.Config.MaxHeaderBytes = 16 << 10
	server.Start()
	s.t.Cleanup(server.Close)
	return server.URL
}

// reply is an answer, read whole.
type reply struct {
	*http.Response
	body string
}

func (s *service) do(method, url, body string, header ...string) reply {
	s.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, url, reader)
	require.NoError(s.t, err)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	return s.send(r)
}

func (s *service) send(r *http.Request) reply {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	response, err := client.Do(r)
	require.NoError(s.t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	if strings.HasPrefix(r.URL.String(), s.public) {
		described.see(s.t, r, response, data)
	}
	return reply{response, string(data)}
}

func (s *service) post(body string, header ...string) reply {
	s.t.Helper()
	return s.do(http.MethodPost, s.public+"/callback", body, header...)
}

func (s *service) get(path string) reply {
	s.t.Helper()
	return s.do(http.MethodGet, s.public+path, "")
}

// problem asserts that r is a problem of this status and code, and returns its detail.
func (s *service) problem(r reply, status int, code callback.Code) string {
	s.t.Helper()
	require.Equal(s.t, status, r.StatusCode, r.body)
	require.Equal(s.t, "application/problem+json", r.Header.Get("Content-Type"))
	var p web.Problem
	require.NoError(s.t, json.Unmarshal([]byte(r.body), &p), r.body)
	require.Equal(s.t, web.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: p.Detail, Code: code, RequestID: r.Header.Get("X-Request-Id"),
	}, p)
	require.NotEmpty(s.t, p.RequestID)
	return p.Detail
}
