package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// display is the simplest terminal: it knows \r and "erase to the end of the line", and keeps each finished line.
type display struct {
	line  string
	lines []string
}

func (d *display) Write(p []byte) (int, error) {
	for text := string(p); text != ""; {
		switch {
		case strings.HasPrefix(text, wipe):
			d.line, text = "", text[len(wipe):]
		case text[0] == '\n':
			d.lines = append(d.lines, d.line)
			d.line, text = "", text[1:]
		default:
			d.line, text = d.line+text[:1], text[1:]
		}
	}
	return len(p), nil
}

// TestBarAndLogOnOneScreen: while one goroutine draws a bar and others log, no log line has a piece of the bar in it.
func TestBarAndLogOnOneScreen(t *testing.T) {
	shown := &display{}
	s := &screen{w: shown}
	var writers sync.WaitGroup
	for n := range 4 {
		writers.Go(func() {
			for i := range 1000 {
				fmt.Fprintf(logLines{s}, "line %d of %d\n", i, n)
			}
		})
	}
	writers.Go(func() {
		for range 4000 {
			_, _ = s.Write([]byte("bar"))
		}
	})
	writers.Wait()
	if len(shown.lines) != 4000 {
		t.Errorf("%d lines", len(shown.lines))
	}
	for _, line := range shown.lines {
		if !strings.HasPrefix(line, "line ") || strings.Contains(line, "bar") {
			t.Fatalf("bar and log on one line: %q", line)
		}
	}
}

// TestLogLinesCountsWhatItWasGiven: a writer that answers another length is an error to its caller.
func TestLogLinesCountsWhatItWasGiven(t *testing.T) {
	var out bytes.Buffer
	if n, err := (logLines{&screen{w: &out}}).Write([]byte("a\n")); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
