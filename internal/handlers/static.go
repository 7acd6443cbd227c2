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

const (
	htmlType = "text/html; charset=utf-8"
	cssType  = "text/css; charset=utf-8"
	jsType   = "text/javascript; charset=utf-8"
)

// static are embedded files, of one folder.
type static struct {
	files  embed.FS
	dir    string
	policy string            // Content-Security-Policy
	types  map[string]string // by extension; a file without one in it is not served
}

// named answers with the file that the route's {file} names.
func (s static) named(w http.ResponseWriter, r *http.Request) { s.file(chi.URLParam(r, "file"))(w, r) }

// file answers with one of them.
func (s static) file(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		kind, known := s.types[path.Ext(name)]
		data, err := s.files.ReadFile(path.Join(s.dir, path.Base(name)))
		if !known || err != nil {
			web.Fail(w, r, callback.Errorf(callback.NotFound, "there is no such file"))
			return
		}
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-cache") // another version of the service has other files
		h.Set("Content-Security-Policy", s.policy)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}
