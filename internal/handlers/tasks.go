package handlers

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"callback-service/internal/callback"
	"callback-service/internal/maintenance"
	"callback-service/internal/web"
)

// taskList is the answer of GET /admin/tasks.
type taskList struct {
	Tasks []maintenance.Status `json:"tasks"`
}

// tasks answers GET /admin/tasks: the scheduled upkeep.
func (a *API) tasks(w http.ResponseWriter, _ *http.Request) {
	web.JSON(w, http.StatusOK, taskList{a.Tasks.Tasks()})
}

// runTask answers POST /admin/tasks/{name}/run: 202, for the task runs when the loop is free. GET /admin/tasks tells what came of it.
func (a *API) runTask(w http.ResponseWriter, r *http.Request) {
	status, ok := a.Tasks.Start(chi.URLParam(r, "name"))
	if !ok {
		web.Fail(w, r, callback.Errorf(callback.NotFound, "there is no such task; GET /admin/tasks lists them"))
		return
	}
	a.Log.Info("a task was started by hand", "task", status.Name, "request_id", web.RequestID(r.Context()))
	web.JSON(w, http.StatusAccepted, status)
}
