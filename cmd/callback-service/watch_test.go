package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"callback-service/internal/diagnose"
)

// TestProgressInTheLog: a stage makes progress when its age has fallen, not when its finding is gone:
// another finding, such as a database that is down, may have taken its place.
func TestProgressInTheLog(t *testing.T) {
	var log bytes.Buffer
	s := &statistician{log: slog.New(slog.NewTextHandler(&log, nil)), stuck: map[string]float64{}}
	stuck := []diagnose.Finding{{Code: "database_slow", Stage: "save", Detail: "for 6 s"}}
	down := []diagnose.Finding{{Code: "database_down"}}
	for _, step := range []struct {
		age      float64
		findings []diagnose.Finding
		want     string
	}{
		{4, nil, ""},
		{6, stuck, "no progress"},
		{7, stuck, ""},
		{8, down, ""},
		{9, stuck, ""},
		{0.1, nil, "progress again"},
		{0.2, nil, ""},
		{6, stuck, "no progress"},
	} {
		log.Reset()
		s.logStages(diagnose.Stats{StageAges: map[string]float64{"save": step.age}, Findings: step.findings})
		require.Contains(t, log.String(), step.want, "%v", step)
		require.Equal(t, step.want != "", strings.Contains(log.String(), "stage=save"), "%v", step)
	}
}
