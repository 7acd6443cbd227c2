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
	// Only on the operator listener:
	Stages   map[string]float64 `json:"stages,omitempty"`   // seconds that each has had its work in hand
	Findings []string           `json:"findings,omitempty"` // only codes: the details name addresses, and anybody may ask
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
	status, h := a.readiness()
	web.JSON(w, status, h)
}

// readyForOperator is ready with the ages of the stages, which do not matter to the status.
func (a *API) readyForOperator(w http.ResponseWriter, _ *http.Request) {
	status, h := a.readiness()
	if a.Stages != nil {
		h.Stages, h.Findings = a.Stages()
	}
	web.JSON(w, status, h)
}

func (a *API) readiness() (status int, h health) {
	if a.draining.Load() {
		return http.StatusServiceUnavailable, health{Status: "draining", Detail: "the service is shutting down"}
	}
	if err := a.Inbox.Ready(); err != nil {
		h := health{Status: "not_ready", Detail: "callbacks are not accepted"}
		var e *callback.Error
		if errors.As(err, &e) {
			h.Status, h.Detail = string(e.Code), e.Detail
		}
		return http.StatusServiceUnavailable, h
	}
	h = health{Status: "ok"}
	if a.Salvaging != nil {
		if file := a.Salvaging(); file != "" {
			h.Detail = "the inbox was damaged; callbacks are being brought back from " + file
		}
	}
	return http.StatusOK, h
}
