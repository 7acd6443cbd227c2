package handlers

import (
	"embed"

	"github.com/go-chi/chi/v5"
)

// dashboard is the operator's page: plain HTML, CSS and modules of JavaScript, and uPlot 1.6.32 (npm) for the charts.
//
//go:embed dashboard
var dashboard embed.FS

// dashboardPage is the page. What it shows it asks for at the guarded routes; the files themselves say nothing of the service.
var dashboardPage = static{
	files: dashboard, dir: "dashboard", policy: "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
	types: map[string]string{".html": htmlType, ".css": cssType, ".js": jsType, ".svg": "image/svg+xml"},
}

// show adds the routes of the dashboard.
func (a *API) show(r chi.Router) {
	r.Get("/", dashboardPage.file("index.html"))
	r.Get("/dashboard/{file}", dashboardPage.named)
}
