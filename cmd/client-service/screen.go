package main

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// terminal returns where to log and, when a progress bar is wanted and stderr is a terminal, where to draw it; else nil.
func terminal(stderr io.Writer, progress string) (log, bar io.Writer) {
	f, ok := stderr.(*os.File)
	if !ok || progress == "lines" || !term.IsTerminal(int(f.Fd())) {
		return stderr, nil
	}
	s := &screen{w: f}
	return logLines{s}, s
}

// screen is a terminal with a progress bar on its last line. Each Write reaches it whole.
type screen struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// wipe puts the cursor at the start of an empty line.
const wipe = "\r\x1b[K"

// logLines writes to a screen what comes in whole lines, as slog's records do. It wipes the bar's line in the same Write:
// the bar, which another goroutine draws, would come between two.
type logLines struct{ *screen }

func (l logLines) Write(p []byte) (int, error) {
	n, err := l.screen.Write(append([]byte(wipe), p...))
	return max(0, n-len(wipe)), err
}
