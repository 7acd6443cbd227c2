package handlers

import (
	"errors"
	"net/http"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// health is the answer of every health route.
type health struct {
	Status  string `json:"status"` // ok, or why not
	Version string `json:"version,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

// root answers GET /: the service is here.
func (a *API) root(w http.ResponseWriter, _ *http.Request) {
	web.JSON(w, http.StatusOK, health{Status: "ok", Version: a.Version})
}

// live says only that the process answers: whoever restarts it for anything else makes an outage of a delay.
func (a *API) live(w http.ResponseWriter, _ *http.Request) {
	web.JSON(w, http.StatusOK, health{Status: "ok"})
}

// ready says whether callbacks are accepted. Neither database nor source matters to that.
func (a *API) ready(w http.ResponseWriter, _ *http.Request) {
	if a.draining.Load() {
		web.JSON(w, http.StatusServiceUnavailable, health{Status: "draining", Detail: "the service is shutting down"})
		return
	}
	if err := a.Inbox.Ready(); err != nil {
		h := health{Status: "not_ready", Detail: "callbacks are not accepted"}
		var e *callback.Error
		if errors.As(err, &e) {
			h.Status, h.Detail = string(e.Code), e.Detail
		}
		web.JSON(w, http.StatusServiceUnavailable, h)
		return
	}
	h := health{Status: "ok"}
	if a.Salvaging != nil {
		if file := a.Salvaging(); file != "" {
			h.Detail = "the inbox was damaged; callbacks are being brought back from " + file
		}
	}
	web.JSON(w, http.StatusOK, h)
}
