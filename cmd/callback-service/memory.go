package main

import (
	"log/slog"
	"os"
	"runtime/debug"

	"callback-service/internal/dispatch"
	"callback-service/internal/events"
	"callback-service/internal/handlers"
	"callback-service/internal/inbox"
	"callback-service/internal/web"
)

// What one of each takes at most, measured, but for what its own bytes are.
const (
	programBytes    = 96 << 20 // the program itself, SQLite's connections and their caches, the pool of PostgreSQL's, metrics, spans, rate limits
	connectionBytes = 32 << 10 // goroutines, buffers and the first part of a body; the headers come twice
	unitBytes       = 2500     // a unit of the window; see TestBytesOfTheWindow
	fetchBytes      = 48 << 10 // goroutine, connection to the source and request
	eventBytes      = 1 << 10
	appendBytes     = 4 << 10 // of a request whose callback waits for the disk, without its ids
	decodedTimes    = 10      // what encoding/json takes at worst, in times of the body
	batchTimes      = 3       // a write as objects, as JSON and as what goes to the database
	gcPercent       = 200
)

// part is something that takes memory, and how much at most.
type part struct {
	name  string
	bytes int64
}

// memoryParts are all that wait in memory, with their bounds; the limits of the flags keep them within an int64.
// OPERATIONS.md says the same in words.
func memoryParts(c *config) []part {
	fetched, workers := c.Source.MaxBody, int64(c.Pool.Workers)
	return []part{
		{"program", programBytes},
		{"connections", (c.Web.MaxConnections + operatorConnections) * (connectionBytes + 2*maxHeader)},
		{"bodies", web.BudgetFor(c.Web.MaxBody) + web.Decoders*decodedTimes*c.Web.MaxBody},
		{"appends", inbox.QueueBytes + c.Web.MaxInFlight*(appendBytes+8*int64(c.Web.MaxIDs))},
		{"window", int64(c.Pool.Window) * unitBytes},
		{"fetches", workers * (2*fetched + fetchBytes)},
		{"answers not saved", dispatch.UnsavedBytes},
		{"batch", batchTimes * dispatch.MaxBatch * fetched},
		{"events", events.MaxWaiting * eventBytes},
		{"readers", handlers.AnswersFor(fetched, c.Web.MaxIDs)},
	}
}

// memoryNeeded is what the service takes at its worst: the sum of its parts and a quarter for the garbage collector to
// work with.
func memoryNeeded(c *config) int64 {
	var sum int64
	for _, p := range memoryParts(c) {
		sum += p.bytes
	}
	return sum + sum/4
}

// memoryLimit is the limit that the garbage collector keeps to, and what says so.
func memoryLimit(c *config) (bytes int64, from string) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return debug.SetMemoryLimit(-1), "GOMEMLIMIT"
	}
	return memoryNeeded(c), "the flags"
}

// tuneMemory has the garbage collector keep to the limit, and trades memory below it for time, for callbacks make much
// short-lived garbage. What the environment says of either counts.
func tuneMemory(c *config, log *slog.Logger) {
	limit, from := memoryLimit(c)
	debug.SetMemoryLimit(limit)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log.Debug("memory", "limit_mib", limit>>20, "from", from)
}
