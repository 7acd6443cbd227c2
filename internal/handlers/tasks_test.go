package handlers_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/handlers"
	"callback-service/internal/maintenance"
	"callback-service/internal/middleware"
)

func TestTasks(t *testing.T) {
	ran := make(chan struct{}, 2)
	loop := maintenance.New(func(string, error) {},
		maintenance.Task{Name: "receipts", About: "deletes receipts", Every: time.Hour, Run: func(context.Context) (string, error) {
			defer func() { ran <- struct{}{} }()
			return "", errors.New("no database")
		}})
	s := newService(t, func(a *handlers.API) {
		a.Tasks = loop
		a.Around.Admin = []func(http.Handler) http.Handler{middleware.Change}
	})
	list := s.do(http.MethodGet, s.operator+"/admin/tasks", "")
	require.Equal(t, http.StatusOK, list.StatusCode)
	require.Regexp(t, `^\{"tasks":\[\{"name":"receipts","about":"deletes receipts","schedule":"every 1h0m0s","running":false,"runs":0,"failures":0,`+
		`"last_run":null,"duration_ms":0,"result":"","error":"","next_run":"[^"]+"\}\]\}$`, list.body)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- loop.Run(ctx) }() // ends with ctx
	run := s.operator + "/admin/tasks/receipts/run"
	require.Equal(t, http.StatusAccepted, s.do(http.MethodPost, run, "{}", "Content-Type", "application/json").StatusCode)
	<-ran
	require.Eventually(t, func() bool { return loop.Tasks()[0].Runs == 1 }, 10*time.Second, time.Millisecond)
	require.Contains(t, s.do(http.MethodGet, s.operator+"/admin/tasks", "").body, `"failures":1,"last_run":"2`)
	cancel()
	require.NoError(t, <-ended)

	s.problem(s.do(http.MethodPost, s.operator+"/admin/tasks/nothing/run", "{}", "Content-Type", "application/json"), http.StatusNotFound, callback.NotFound)
	s.problem(s.do(http.MethodPost, run, "{}"), http.StatusUnsupportedMediaType, callback.UnsupportedMediaType)
	s.problem(s.do(http.MethodPost, run, "{}", "Content-Type", "application/json", "Origin", "https://elsewhere.example"), http.StatusForbidden, callback.Forbidden)
	require.Empty(t, ran, "nothing of that ran it")
}
