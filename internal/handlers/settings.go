package handlers

import (
	"net/http"
	"reflect"
	"strings"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// Settings are what an operator may change while the service runs. They hold for this process, until it ends.
type Settings struct {
	PoolWorkers      int     `json:"pool_workers"`
	PoolMaxAttempts  int     `json:"pool_max_attempts"`
	ObjectTTL        string  `json:"object_ttl"`  // a duration; of what is stored from now on
	ObjectKeep       string  `json:"object_keep"` // all or online
	WebRate          float64 `json:"web_rate"`    // callbacks a second of each sender; 0: no limit
	LogLevel         string  `json:"log_level"`
	TraceProbability float64 `json:"trace_probability"`
	Paused           bool    `json:"paused"` // nothing new is fetched
}

// Runtime is what the settings are of.
type Runtime interface {
	Settings() Settings
	// Apply puts all of s in force, or nothing of it: an error names the field that is out of its range.
	Apply(s Settings) error
}

// settings answers GET /admin/config.
func (a *API) settings(w http.ResponseWriter, _ *http.Request) {
	web.JSON(w, http.StatusOK, a.Runtime.Settings())
}

// changeSettings answers PATCH /admin/config: the body names what changes.
func (a *API) changeSettings(w http.ResponseWriter, r *http.Request) {
	a.patching.Lock()
	defer a.patching.Unlock()
	old := a.Runtime.Settings()
	next := old
	err := a.readChange(w, r, &next)
	if err == nil {
		if err = a.Runtime.Apply(next); err != nil {
			err = callback.Errorf(callback.InvalidCallback, "%v", err)
		}
	}
	if err != nil {
		web.Fail(w, r, err)
		return
	}
	a.logChanges(r, old, next)
	web.JSON(w, http.StatusOK, a.Runtime.Settings())
}

func (a *API) logChanges(r *http.Request, old, next Settings) {
	before, after := reflect.ValueOf(old), reflect.ValueOf(next)
	for i := range before.NumField() {
		if x, y := before.Field(i).Interface(), after.Field(i).Interface(); x != y {
			name, _, _ := strings.Cut(before.Type().Field(i).Tag.Get("json"), ",")
			a.Log.Info("a setting was changed, until the process ends", "setting", name, "old", x, "new", y, "request_id", web.RequestID(r.Context()))
		}
	}
}
