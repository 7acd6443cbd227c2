package handlers_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/callback"
)

func TestDropWaiting(t *testing.T) {
	s := newService(t)
	drop := func(id string) reply {
		return s.do(http.MethodPost, s.operator+"/admin/waiting/"+id+"/drop", "{}", "Content-Type", "application/json")
	}
	done := drop("7")
	require.Equal(t, http.StatusOK, done.StatusCode)
	require.JSONEq(t, `{"callbacks":2}`, done.body)
	s.problem(drop("8"), http.StatusNotFound, callback.NotFound)
	s.problem(drop("-1"), http.StatusBadRequest, callback.InvalidParameter)
	s.problem(drop("x"), http.StatusBadRequest, callback.InvalidParameter)
}
