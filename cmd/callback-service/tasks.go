package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"callback-service/internal/callback"
	"callback-service/internal/inbox"
	"callback-service/internal/maintenance"
	"callback-service/internal/store"
	"callback-service/internal/telemetry"
)

const (
	taskPeriod   = time.Minute
	receiptChunk = 500
	receiptPause = 5 * time.Millisecond // between two chunks: SQLite has one writer, and objects that expire come first
)

// newTasks are the upkeep that happens by the clock.
func newTasks(in *inbox.Inbox, db *store.Store, log *slog.Logger, m *telemetry.Metrics) *maintenance.Loop {
	tasks := []maintenance.Task{
		{Name: "receipts", About: "deletes receipts past --receipt-ttl", Every: taskPeriod, Run: func(ctx context.Context) (string, error) {
			n, err := deleteReceipts(ctx, db)
			return fmt.Sprintf("deleted %d receipts", n), err
		}},
		{Name: "idempotency-keys", About: "forgets keys past --inbox-dedupe", Every: taskPeriod, Run: func(ctx context.Context) (string, error) {
			n, err := in.ForgetKeys(ctx)
			return fmt.Sprintf("forgot %d keys", n), err
		}},
		{Name: "damaged-receipts", About: "writes receipts of callbacks whose records in the inbox were damaged", Every: taskPeriod / 6, Run: func(ctx context.Context) (string, error) {
			n, err := writeDamaged(ctx, in, db)
			return fmt.Sprintf("wrote %d receipts", n), err
		}},
	}
	if db.Embedded() {
		tasks = append(tasks, maintenance.Task{
			Name: "sqlite", About: "gives free pages of the SQLite database back to the disk", Every: 10 * taskPeriod,
			Run: func(ctx context.Context) (string, error) {
				freed, err := db.Reclaim(ctx)
				return fmt.Sprintf("gave %.1f MiB back", float64(freed)/(1<<20)), err
			},
		})
	}
	for _, t := range tasks {
		m.TaskFailures.WithLabelValues(t.Name)
	}
	return maintenance.New(func(task string, err error) {
		m.TaskFailures.WithLabelValues(task).Inc()
		if !errors.Is(err, callback.ErrDatabaseDown) { // that is logged once, for all
			log.Warn("a task failed, and will run again", "task", task, "error", err)
		}
	}, tasks...)
}

// writeDamaged writes a receipt for each callback whose record was set aside, where its id and sender are intact.
func writeDamaged(ctx context.Context, in *inbox.Inbox, db *store.Store) (written int, err error) {
	for {
		receipts, err := in.Damaged(ctx, receiptChunk)
		if err != nil || len(receipts) == 0 {
			return written, err
		}
		ids := make([]string, len(receipts))
		for i := range receipts {
			ids[i] = receipts[i].CallbackID
		}
		if err := db.SaveDamaged(ctx, receipts); err != nil {
			return written, err
		}
		if err := in.Told(ctx, ids...); err != nil {
			return written, err
		}
		written += len(receipts)
	}
}

// doneOf returns those of some callbacks whose outcome is known. One whose record was damaged may still be found intact in another place.
func doneOf(ctx context.Context, db *store.Store, ids []string) (map[string]bool, error) {
	found, err := db.Done(ctx, ids)
	done := make(map[string]bool, len(found))
	for id, status := range found {
		done[id] = status == callback.StatusDone
	}
	return done, err
}

func deleteReceipts(ctx context.Context, db *store.Store) (deleted int, err error) {
	for {
		n, err := db.DeleteOldReceipts(ctx, receiptChunk)
		deleted += n
		if err != nil || n < receiptChunk {
			return deleted, err
		}
		select {
		case <-time.After(receiptPause):
		case <-ctx.Done():
			return deleted, ctx.Err()
		}
	}
}
