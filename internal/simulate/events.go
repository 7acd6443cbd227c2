package simulate

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// events is what has happened, for a person who looks for the cause of a failure.
type events struct {
	began time.Time
	mu    sync.Mutex
	lines []string
}

const keptEvents = 2000

func (e *events) add(who, format string, args ...any) {
	line := fmt.Sprintf("%12s %-8s %s", time.Since(e.began), who, fmt.Sprintf(format, args...))
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.lines) == keptEvents {
		e.lines = e.lines[:copy(e.lines, e.lines[keptEvents/2:])]
	}
	e.lines = append(e.lines, line)
}

// last returns the last n.
func (e *events) last(n int) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.lines[max(0, len(e.lines)-n):]...)
}

var logTime = regexp.MustCompile(`^time=\S+ `)

// trimLog is a line of the log without its time, which the event has.
func trimLog(p []byte) string {
	line := string(logTime.ReplaceAll(bytes.TrimSpace(p), nil))
	return strings.ReplaceAll(fmt.Sprintf("%.300s", line), "\n", " ")
}
