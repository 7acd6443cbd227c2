// Package maintenance runs upkeep by the clock.
package maintenance

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Task is a piece of upkeep.
type Task struct {
	Name  string        // lower case, with dashes
	About string        // for people
	Every time.Duration // from the end of a run to the next
	// Run does all that there is to do, and says what that was. It must end soon after its context does.
	Run func(ctx context.Context) (result string, err error)
}

// Status is how a task stands.
type Status struct {
	Name       string     `json:"name"`
	About      string     `json:"about"`
	Schedule   string     `json:"schedule"`
	Running    bool       `json:"running"`
	Runs       int        `json:"runs"`     // that ended
	Failures   int        `json:"failures"` // of them
	LastRun    *time.Time `json:"last_run"` // when the last one began; nil: there was none
	DurationMS float64    `json:"duration_ms"`
	Result     string     `json:"result"`   // of the last one; empty when it failed
	Error      string     `json:"error"`    // of the last one; empty when it did not fail
	NextRun    *time.Time `json:"next_run"` // nil while it runs, or is about to
}

// Loop runs tasks, one at a time.
type Loop struct {
	onFailure func(task string, err error)
	wake      chan struct{} // capacity 1: a task was asked for

	mu    sync.Mutex
	tasks []*task
}

type task struct {
	Task
	status Status
	due    time.Time
	wanted time.Time // when the first run since the last success was due
}

// New returns a Loop; Run starts it. The first run of each task is a period from now. onFailure is
// told of each run that failed; it must not call the Loop.
func New(onFailure func(task string, err error), tasks ...Task) *Loop {
	l := &Loop{onFailure: onFailure, wake: make(chan struct{}, 1)}
	for _, t := range tasks {
		due := time.Now().Add(t.Every)
		l.tasks = append(l.tasks, &task{t, Status{Name: t.Name, About: t.About, Schedule: "every " + t.Every.String(), NextRun: &due}, due, due})
	}
	return l
}

// Tasks tells how all of them stand.
func (l *Loop) Tasks() []Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Status, len(l.tasks))
	for i, t := range l.tasks {
		all[i] = t.status
	}
	return all
}

// Start has a task run as soon as the loop is free, unless it runs already; ok is false when there is none of that name.
func (l *Loop) Start(name string) (s Status, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tasks {
		if t.Name == name {
			t.due, t.status.NextRun = time.Now(), nil // the end of a run under way says anew when the next is
			select {
			case l.wake <- struct{}{}:
			default: // the loop will look anyway
			}
			return t.status, true
		}
	}
	return Status{}, false
}

// Late returns the task that is overdue for longest: it fails, or it has not ended, though it should
// have run at least twice since. ok is false when there is none.
func (l *Loop) Late() (name string, by time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tasks {
		if late := time.Since(t.wanted); late > 2*t.Every && late > by {
			name, by, ok = t.Name, late, true
		}
	}
	return name, by, ok
}

// Run runs tasks when they are due, until ctx ends. A task that fails runs again when it is due
// again. It returns nil.
func (l *Loop) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		t, wait := l.next(time.Now())
		if wait <= 0 {
			l.run(ctx, t)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.wake:
		}
	}
	return nil
}

// next is the task that is due first, and how long it is until then.
func (l *Loop) next(now time.Time) (first *task, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tasks {
		if first == nil || t.due.Before(first.due) {
			first = t
		}
	}
	if first == nil {
		return nil, time.Hour
	}
	return first, first.due.Sub(now)
}

func (l *Loop) run(ctx context.Context, t *task) {
	began := time.Now()
	l.mu.Lock()
	t.status.Running, t.status.LastRun, t.status.NextRun = true, &began, nil
	l.mu.Unlock()
	result, err := guarded(ctx, t.Run)
	ended := time.Now()
	next := ended.Add(t.Every)

	l.mu.Lock()
	defer l.mu.Unlock()
	s := &t.status
	s.Running, s.DurationMS, s.Result, s.Error, s.NextRun, t.due = false, float64(ended.Sub(began).Microseconds())/1000, result, "", &next, next
	s.Runs++
	if err == nil || ctx.Err() != nil { // the end is no failure
		t.wanted = next
		return
	}
	s.Failures++
	s.Result, s.Error = "", err.Error()
	l.onFailure(t.Name, err)
}

// guarded makes an error of a panic: upkeep is no reason to end the process.
func guarded(ctx context.Context, run func(context.Context) (string, error)) (result string, err error) {
	defer func() {
		if p := recover(); p != nil {
			result, err = "", fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return run(ctx)
}
