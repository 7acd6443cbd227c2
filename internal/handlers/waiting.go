package handlers

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"

	"callback-service/internal/callback"
	"callback-service/internal/web"
)

// dropped is the answer of dropWaiting.
type dropped struct {
	Callbacks int `json:"callbacks"` // that waited for the id
}

// dropWaiting answers POST /admin/waiting/{id}/drop: an id that failed and waits for another try becomes a dead letter at once. It is for ids
// against which no attempt is spent, because the source answers nobody else.
func (a *API) dropWaiting(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(chi.URLParam(r, "id"), 10, 64)
	if err != nil || id < 0 {
		web.Fail(w, r, callback.Errorf(callback.InvalidParameter, "id: want the id of an object, 0 or above"))
		return
	}
	callbacks, err := a.Progress.Drop(r.Context(), id)
	switch {
	case err != nil:
		web.Fail(w, r, &callback.Error{Code: callback.Unavailable, Detail: "the dispatcher does not answer: try again", RetryAfter: time.Second, Err: err})
	case callbacks == 0:
		web.Fail(w, r, callback.Errorf(callback.NotFound,
			"no such id waits here for another try: it may be being fetched, or wait in the inbox until it is due; try again then"))
	default:
		a.Log.Warn("an id that waited was dropped by hand", "object_id", id, "callbacks", callbacks, "request_id", web.RequestID(r.Context()))
		web.JSON(w, http.StatusOK, dropped{callbacks})
	}
}
