package handlers

import (
	"embed"

	"github.com/go-chi/chi/v5"
)

// docs is the API's description, openapi.json, and a page that shows it: Swagger UI of the npm package swagger-ui-dist 5.35.0, so that the page
// needs nothing from elsewhere.
//
//go:embed docs
var docs embed.FS

// docsPage is the page. Swagger UI sets styles of its own, and draws its icons from data.
var docsPage = static{
	files: docs, dir: "docs", policy: "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
	types: map[string]string{".html": htmlType, ".css": cssType, ".js": jsType, ".json": "application/json"},
}

// describe adds the routes of the description.
func (a *API) describe(r chi.Router) {
	r.Get("/openapi.json", docsPage.file("openapi.json"))
	r.Get("/docs", docsPage.file("index.html"))
	r.Get("/docs/{file}", docsPage.named)
}
