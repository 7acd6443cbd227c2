// Package handlers are the routes: the public API and the operator's.
package handlers

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"callback-service/internal/auth"
	"callback-service/internal/callback"
	"callback-service/internal/events"
	"callback-service/internal/maintenance"
	"callback-service/internal/telemetry"
	"callback-service/internal/web"
)

// Inbox is where accepted callbacks go. Errors are *callback.Error.
type Inbox interface {
	// Append must not return nil before c is durable.
	Append(ctx context.Context, c *callback.Callback) error
	// AppendOnce is Append, but for what was posted under this key before: first is its id then, and nothing is appended.
	AppendOnce(ctx context.Context, c *callback.Callback, key callback.Key) (first string, err error)
	Lookup(id string) (callback.Callback, error)
	List(ctx context.Context, q callback.ReceiptQuery) ([]callback.Callback, error)
	ListIDs(ctx context.Context, q callback.ReceiptQuery) ([]string, error)
	Ready() error
}

// Store is what can be read of the database. Errors are *callback.Error.
type Store interface {
	Object(ctx context.Context, id int64) (callback.Object, error)
	Objects(ctx context.Context, q callback.ObjectQuery) ([]callback.Object, error)
	Receipt(ctx context.Context, callbackID string) (callback.Receipt, error)
	Receipts(ctx context.Context, q callback.ReceiptQuery) ([]callback.Receipt, error)
	// CountReceipts leaves out the callbacks of these ids.
	CountReceipts(ctx context.Context, q callback.ReceiptQuery, except []string) (int64, error)
	DeadLetters(ctx context.Context, q callback.DeadLetterQuery) ([]callback.DeadLetter, error)
	CountDeadLetters(ctx context.Context, q callback.DeadLetterQuery) (int, error)
	DeleteDeadLetters(ctx context.Context, letters []callback.DeadLetter) (int, error)
}

// Progress tells of callbacks that are being worked on, and gives up an id that waits for another try.
type Progress interface {
	Progress(callbackID string) (callback.Receipt, bool)
	Drop(ctx context.Context, id int64) (callbacks int, err error)
}

// API is both listeners' routes over the stages.
type API struct {
	Inbox    Inbox
	Store    Store
	Progress Progress
	Runtime  Runtime
	Events   *events.Hub
	Tasks    *maintenance.Loop
	Metrics  *telemetry.Metrics
	Log      *slog.Logger

	Version string
	MaxBody int64 // bytes of a callback
	MaxIDs  int   // ids in a callback
	Bodies  *web.BodyBudget
	Answers *Answers

	// Salvaging is the damaged file of the inbox from which callbacks are being brought back, or empty; nil: there is never one.
	Salvaging func() string

	// Stages tells the operator how long each stage has had in hand what it works on, in seconds, and
	// the codes of the findings; nil: nobody knows.
	Stages func() (ages map[string]float64, findings []string)

	Now func() time.Time // the wall clock, by which callbacks are received; nil: time.Now

	Around Around

	// Whether the credentials that a live feed was opened with are still valid; nil: nobody asks for any.
	SenderHolds   func(auth.Sender) bool
	OperatorHolds func(*http.Request) bool

	refused, failed telemetry.Occasionally

	draining atomic.Bool
	patching sync.Mutex // one change of settings at a time
}

// Around is the middleware around the routes, the outermost first. Health checks pass only what is around all: who asks for them has no
// credentials, and the answer matters most when the service is busy.
type Around struct {
	All      []func(http.Handler) http.Handler
	Public   []func(http.Handler) http.Handler
	Operator []func(http.Handler) http.Handler
	Page     []func(http.Handler) http.Handler // the dashboard's own files
	Admin    []func(http.Handler) http.Handler // the operator's /admin, within Operator
	// Callbacks is around the posting of callbacks, inside Public.
	Callbacks []func(http.Handler) http.Handler
}

// sender is who sent the request. Where nobody asks who it is, and on the operator listener, everybody may see everything.
func sender(r *http.Request) auth.Sender {
	s, ok := auth.FromContext(r.Context())
	if !ok {
		return auth.Sender{Admin: true}
	}
	return s
}

// now is the wall clock.
func (a *API) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// Drain turns readiness off.
func (a *API) Drain() { a.draining.Store(true) }

// Public is the API for senders and readers.
func (a *API) Public() http.Handler {
	r := a.router(a.Around.Public)
	r.Get("/", a.root)
	r.Get("/livez", a.live)
	r.Get("/readyz", a.ready)
	r.Group(func(r chi.Router) {
		r.Use(chimiddleware.Compress(5, "application/json", "text/html", "text/css", "text/javascript"))
		a.describe(r)
	})
	r.Group(func(r chi.Router) {
		r.Use(a.Around.Public...)
		callbacks := r.With(a.Around.Callbacks...)
		callbacks.Post("/callback", a.accept)
		callbacks.Post("/v1/callbacks", a.accept)
		r.Get("/v1/events", a.watch)
		a.reads(r)
	})
	return r
}

// Operator is for those who run the service: the dashboard, profiles, metrics, health, and the same reads.
func (a *API) Operator() http.Handler {
	r := a.router(a.Around.Operator)
	r.Get("/livez", a.live)
	r.Get("/readyz", a.readyForOperator)
	r.Group(func(r chi.Router) {
		r.Use(a.Around.Page...)
		r.Use(chimiddleware.Compress(5, "text/html", "text/css", "text/javascript"))
		a.show(r)
	})
	r.Group(func(r chi.Router) {
		r.Use(a.Around.Operator...)
		r.Method(http.MethodGet, "/metrics", a.Metrics.Handler())
		r.HandleFunc("/debug/pprof/*", pprof.Index)
		r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		r.HandleFunc("/debug/pprof/profile", pprof.Profile)
		r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		r.HandleFunc("/debug/pprof/trace", pprof.Trace)
		r.Get("/v1/events", a.watchAll)
		a.reads(r)
		r.Route("/admin", func(r chi.Router) {
			r.Use(a.Around.Admin...)
			r.Get("/config", a.settings)
			r.Patch("/config", a.changeSettings)
			r.Get("/dead-letters", a.deadLetters)
			r.Post("/dead-letters/redrive", a.redrive)
			r.Post("/dead-letters/drop", a.drop)
			r.Post("/waiting/{id}/drop", a.dropWaiting)
			r.Get("/tasks", a.tasks)
			r.Post("/tasks/{name}/run", a.runTask)
		})
	})
	return r
}

// router guards what is not there as well: who is not known does not learn of it either.
func (a *API) router(guards []func(http.Handler) http.Handler) chi.Router {
	r := chi.NewRouter()
	r.Use(a.Around.All...)
	r.Use(chimiddleware.GetHead)
	guarded := chi.Chain(guards...)
	nothing := guarded.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		web.Fail(w, r, callback.Errorf(callback.NotFound, "there is nothing at this path"))
	})
	r.NotFound(nothing.ServeHTTP)
	r.MethodNotAllowed(guarded.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		methods := allowed(r, req.URL.Path)
		if len(methods) == 0 { // chi looks up no path for a method that it does not know
			nothing.ServeHTTP(w, req)
			return
		}
		w.Header().Set("Allow", strings.Join(methods, ", "))
		web.Fail(w, req, callback.Errorf(callback.MethodNotAllowed, "this path does not take %s", req.Method))
	}).ServeHTTP)
	return r
}

// allowed asks the routes which methods a path takes. GetHead answers HEAD wherever there is a GET.
func allowed(r chi.Router, path string) []string {
	methods := []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	}
	return slices.DeleteFunc(methods, func(method string) bool {
		if method == http.MethodHead {
			method = http.MethodGet
		}
		return !r.Match(chi.NewRouteContext(), method, path)
	})
}

func (a *API) reads(r chi.Router) {
	r = r.With(chimiddleware.Compress(5, "application/json"))
	r.Get("/v1/objects", a.objects)
	r.Get("/v1/objects/{id}", a.object)
	r.Get("/v1/callbacks", a.receipts)
	r.Get("/v1/callbacks/{id}", a.receipt)
}
