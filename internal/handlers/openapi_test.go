package handlers_test

import (
	"encoding/json"
	"mime"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
	"callback-service/internal/handlers"
	"callback-service/internal/middleware"
	"callback-service/internal/web"
)

// schema is what openapi.json uses of JSON Schema.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Items      *schema           `json:"items"`
	Enum       []string          `json:"enum"`
	Const      any               `json:"const"`
	Open       bool              `json:"additionalProperties"`
}

type operation struct {
	Parameters []struct{ Name, In string }
	Responses  map[string]answer
	Tags       []string
}

// answer is a response; the examples of a problem are named for the codes that it may have.
type answer struct {
	Ref     string `json:"$ref"`
	Content map[string]struct {
		Schema   schema
		Examples map[string]struct{ Value any }
	}
}

// description is openapi.json, and how much of it was seen in answers.
type description struct {
	Paths      map[string]map[string]operation
	Components struct {
		Schemas   map[string]schema
		Responses map[string]answer
	}

	mu   sync.Mutex
	seen map[string]bool
}

var described = func() *description {
	d := &description{seen: map[string]bool{}}
	data, err := os.ReadFile("docs/openapi.json")
	if err == nil {
		err = json.Unmarshal(data, d)
	}
	if err != nil {
		panic(err)
	}
	return d
}()

// see fails the test when an answer is not as described.
func (d *description) see(t *testing.T, r *http.Request, response *http.Response, body []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	route := d.route(r.URL.Path)
	method := strings.ToLower(r.Method)
	op, ok := d.Paths[route][method]
	if !ok { // nothing there: the contract has one answer for that
		require.Contains(t, []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusOK}, response.StatusCode, "%s %s is not described", r.Method, r.URL.Path)
		return
	}
	status := strconv.Itoa(response.StatusCode)
	if response.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
		status = "4XX"
	}
	described, ok := op.Responses[status]
	require.True(t, ok, "%s %s answered %s, which is not described: %s", r.Method, route, status, body)
	described = d.resolve(described)
	name := strings.Join([]string{route, method, status}, " ")
	d.seen[name] = true
	if len(described.Content) == 0 || response.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	require.NoError(t, err)
	content, ok := described.Content[kind]
	require.True(t, ok, "%s %s answered %s, which is not described", r.Method, route, kind)
	if response.Header.Get("Content-Encoding") != "" || !strings.HasSuffix(kind, "json") || r.Method == http.MethodHead {
		return
	}
	var value any
	require.NoError(t, json.Unmarshal(body, &value))
	d.hold(t, name, content.Schema, value)
	if problem, ok := value.(map[string]any); ok && kind == "application/problem+json" {
		code, _ := problem["code"].(string)
		require.Contains(t, content.Examples, code, "%s: this code has no example", name)
		d.seen[name+" "+code] = true
	}
}

func (d *description) resolve(a answer) answer {
	if a.Ref != "" {
		return d.Components.Responses[path.Base(a.Ref)]
	}
	return a
}

// holdEvent fails the test when a message of the live feed is not as described.
func (d *description) holdEvent(t *testing.T, text []byte) {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal(text, &value))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold(t, "Event", d.Components.Schemas["Event"], value)
}

// route is the described path that a request's path belongs to.
func (d *description) route(requested string) string {
	if _, ok := d.Paths[requested]; ok {
		return requested
	}
	dir, _ := path.Split(requested)
	for _, name := range []string{"{id}", "{file}"} {
		if _, ok := d.Paths[dir+name]; ok {
			return dir + name
		}
	}
	return ""
}

// hold compares a value with its schema, and notes the fields.
func (d *description) hold(t *testing.T, where string, s schema, value any) {
	t.Helper()
	if s.Ref != "" {
		name := path.Base(s.Ref)
		resolved, ok := d.Components.Schemas[name]
		require.True(t, ok, s.Ref)
		d.hold(t, name, resolved, value)
		return
	}
	if s.Const != nil {
		require.Equal(t, s.Const, value, where)
	}
	if text, ok := value.(string); ok && len(s.Enum) > 0 {
		require.Contains(t, s.Enum, text, where)
		d.seen[where+" = "+text] = true
	}
	switch v := value.(type) {
	case map[string]any:
		for field, inner := range v {
			property, ok := s.Properties[field]
			if !ok {
				require.True(t, s.Open || s.Properties == nil, "%s: the field %q is not described", where, field)
				continue
			}
			d.seen[where+"."+field] = true
			d.hold(t, where+"."+field, property, inner)
		}
		for _, field := range s.Required {
			require.Contains(t, v, field, where)
		}
	case []any:
		for _, inner := range v {
			if s.Items != nil {
				d.hold(t, where+"[]", *s.Items, inner)
			}
		}
	}
}

// unseen is what openapi.json describes and no answer had. The schema of a request is no answer; statuses that need a listener of a whole
// program are tested there.
func (d *description) unseen() (missing []string) {
	for route, operations := range d.Paths {
		for method, op := range operations {
			for status, response := range op.Responses {
				name := strings.Join([]string{route, method, status}, " ")
				if !d.seen[name] {
					missing = append(missing, name)
				}
				for code := range d.resolve(response).Content["application/problem+json"].Examples {
					if !d.seen[name+" "+code] {
						missing = append(missing, name+" "+code)
					}
				}
			}
		}
	}
	for name, s := range d.Components.Schemas {
		for field := range s.Properties {
			if name != "Callback" && !d.seen[name+"."+field] {
				missing = append(missing, name+"."+field)
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// TestRoutesAreDescribed: the router and openapi.json have the same routes.
func TestRoutesAreDescribed(t *testing.T) {
	s := newService(t)
	var routed, written []string
	require.NoError(t, chi.Walk(s.api.Public().(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routed = append(routed, strings.ToLower(method)+" "+route)
		return nil
	}))
	for route, operations := range described.Paths {
		for method := range operations {
			written = append(written, method+" "+route)
		}
	}
	require.ElementsMatch(t, routed, written)
}

// TestDescriptionIsForGenerators: what makers of clients stumble over, or make too much code of.
func TestDescriptionIsForGenerators(t *testing.T) {
	data, err := os.ReadFile("docs/openapi.json")
	require.NoError(t, err)
	var document map[string]any
	require.NoError(t, json.Unmarshal(data, &document))
	var untyped []string
	var walk func(where string, value any)
	walk = func(where string, value any) {
		switch v := value.(type) {
		case map[string]any:
			if v["type"] == nil && (v["enum"] != nil || v["const"] != nil) {
				untyped = append(untyped, where)
			}
			for name, inner := range v {
				walk(where+"/"+name, inner)
			}
		case []any:
			for i, inner := range v {
				walk(where+"/"+strconv.Itoa(i), inner)
			}
		}
	}
	walk("#", document)
	require.Empty(t, untyped, "an enum or a const without a type")
	for route, operations := range described.Paths {
		for method, op := range operations {
			require.Len(t, op.Tags, 1, "%s %s", method, route)
			require.Contains(t, op.Responses, "4XX", "%s %s", method, route)
			for status, response := range op.Responses {
				require.NotContains(t, response.Content, "application/problem+json", "%s %s %s: name it among the components", method, route, status)
			}
		}
	}
	require.ElementsMatch(t, web.Codes(), described.Components.Schemas["Problem"].Properties["code"].Enum)
	require.Contains(t, document, "servers")
	require.Contains(t, document["info"], "contact")
}

// TestOverlongHeaders: net/http answers before any route, and not with a problem.
func TestOverlongHeaders(t *testing.T) {
	s := newService(t)
	for route, operations := range described.Paths {
		for method := range operations {
			r := s.do(strings.ToUpper(method), s.public+route, "", "X-Long", strings.Repeat("x", 70<<10))
			require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, r.StatusCode, route)
		}
	}
}

// TestEveryDescribedAnswer makes the answers that no other test is about.
func TestEveryDescribedAnswer(t *testing.T) {
	reads := []string{"/v1/events", "/v1/objects", "/v1/callbacks", "/v1/objects/1", "/v1/callbacks/" + callback.NewID(noon)}
	posts := []string{"/callback", "/v1/callbacks"}
	for name, c := range map[string]struct {
		change func(*handlers.API)
		status int
	}{
		"unknown":     {around(func(a *handlers.API) func(http.Handler) http.Handler { return refuse(a, callback.Unauthenticated) }), 401},
		"not allowed": {around(func(a *handlers.API) func(http.Handler) http.Handler { return refuse(a, callback.Forbidden) }), 403},
		"too fast":    {around(func(a *handlers.API) func(http.Handler) http.Handler { return refuse(a, callback.RateLimited) }), 429},
		"overloaded":  {around(func(a *handlers.API) func(http.Handler) http.Handler { return middleware.Ceiling(0, 0, a.Reject) }), 503},
		"full":        {func(a *handlers.API) { a.Inbox = failing{a.Inbox, callback.Errorf(callback.InboxFull, "full")} }, 503},
		"failing":     {func(a *handlers.API) { a.Inbox = failing{a.Inbox, callback.Errorf(callback.Unavailable, "disk")} }, 503},
		"a bug":       {func(a *handlers.API) { a.Inbox = panicking{a.Inbox} }, 500},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, c.change)
			for _, path := range posts {
				require.Equal(t, c.status, s.do(http.MethodPost, s.public+path, `{"object_ids":[1]}`).StatusCode)
			}
			if c.status < 429 || name == "overloaded" {
				for _, path := range reads {
					require.Equal(t, c.status, s.get(path).StatusCode)
				}
			}
		})
	}
	s := newService(t, func(a *handlers.API) { a.MaxBody = 100 })
	for _, path := range posts {
		for body, status := range map[string]int{`{`: 400, `{}`: 422, strings.Repeat(" ", 200): 413} {
			require.Equal(t, status, s.do(http.MethodPost, s.public+path, body).StatusCode)
		}
		require.Equal(t, 415, s.do(http.MethodPost, s.public+path, `{}`, "Content-Type", "text/plain").StatusCode)
		require.Equal(t, 400, s.do(http.MethodPost, s.public+path, `{}`, "Idempotency-Key", strings.Repeat("k", 300)).StatusCode)
		require.Equal(t, 202, s.do(http.MethodPost, s.public+path, `{"object_ids":[1]}`, "Idempotency-Key", path).StatusCode)
		require.Equal(t, 422, s.do(http.MethodPost, s.public+path, `{"object_ids":[2]}`, "Idempotency-Key", path).StatusCode)
	}
	for path, kind := range map[string]string{
		"/openapi.json": "application/json", "/docs": "text/html; charset=utf-8", "/docs/swagger-ui.css": "text/css; charset=utf-8",
		"/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8", "/docs/start.js": "text/javascript; charset=utf-8",
	} {
		r := s.get(path)
		require.Equal(t, http.StatusOK, r.StatusCode, path)
		require.Equal(t, kind, r.Header.Get("Content-Type"))
		require.NotContains(t, strings.ReplaceAll(r.Header.Get("Content-Security-Policy"), "'self'", ""), "http")
	}
	require.NotContains(t, s.get("/docs").body, "http", "the page needs nothing from elsewhere")
	s.problem(s.get("/docs/nothing"), http.StatusNotFound, callback.NotFound)
	s.problem(s.get("/docs/LICENSE.swagger-ui"), http.StatusNotFound, callback.NotFound)
}

func around(make func(*handlers.API) func(http.Handler) http.Handler) func(*handlers.API) {
	return func(a *handlers.API) { a.Around.Public = []func(http.Handler) http.Handler{make(a)} }
}

func refuse(a *handlers.API, code callback.Code) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.Reject(w, r, callback.Errorf(code, "no")) })
	}
}
