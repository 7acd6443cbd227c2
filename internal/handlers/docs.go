package handlers

import (
	"bytes"
	"embed"
	"net/http"
	"path"
	"time"

	"github.com/go-chi/chi/v5"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// docs is the API's description, openapi.json, and a page that shows it: Swagger UI of the npm package swagger-ui-dist 5.35.0, so that the page
// needs nothing from elsewhere.
//
//go:embed docs
var docs embed.FS

// docTypes are the files that are served, and what they are.
var docTypes = map[string]string{
	"index.html":           "text/html; charset=utf-8",
	"openapi.json":         "application/json",
	"swagger-ui-bundle.js": "text/javascript; charset=utf-8",
	"start.js":             "text/javascript; charset=utf-8",
	"swagger-ui.css":       "text/css; charset=utf-8",
}

// describe adds the routes of the description.
func (a *API) describe(r chi.Router) {
	r.Get("/openapi.json", document("openapi.json"))
	r.Get("/docs", document("index.html"))
	r.Get("/docs/{file}", func(w http.ResponseWriter, r *http.Request) {
		document(chi.URLParam(r, "file"))(w, r)
	})
}

func document(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		kind, known := docTypes[name]
		data, err := docs.ReadFile(path.Join("docs", name))
		if !known || err != nil {
			web.Fail(w, r, callback.Errorf(callback.NotFound, "there is no such file"))
			return
		}
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("X-Content-Type-Options", "nosniff")
		// Swagger UI sets styles of its own, and draws its icons from data.
		h.Set("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}
