package store

import (
	"context"
	"database/sql"
	"fmt"

	"callback-service/internal/callback"
)

// DeadLetters returns those that q asks for, by sender and object. Errors are *callback.Error: Unavailable when the database does not answer.
func (s *Store) DeadLetters(ctx context.Context, q callback.DeadLetterQuery) (found []callback.DeadLetter, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	condition, args := s.deadLetterCondition(q)
	statement := `SELECT sender, object_id, callback_id, reason, detail, attempts, failed_at FROM dead_letters WHERE (sender, object_id) > (@after_sender, @after_id) AND ` +
		condition + ` ORDER BY sender, object_id LIMIT @limit`
	args = append(args, sql.Named("after_sender", clean(q.AfterSender, maxName)), sql.Named("after_id", q.AfterID), sql.Named("limit", q.Limit))
	err = s.query(ctx, answering, func(rows *sql.Rows) error {
		var l callback.DeadLetter
		err := rows.Scan(&l.Sender, &l.ObjectID, &l.CallbackID, &l.Reason, &l.Detail, &l.Attempts, instant{&l.FailedAt})
		found = append(found, l)
		return err
	}, statement, args...)
	if err != nil {
		return nil, unavailable(err)
	}
	return found, nil
}

// CountDeadLetters counts all that q asks for, whatever its limit and where it goes on. The errors are the same.
func (s *Store) CountDeadLetters(ctx context.Context, q callback.DeadLetterQuery) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	condition, args := s.deadLetterCondition(q)
	err = s.query(ctx, answering, func(rows *sql.Rows) error { return rows.Scan(&n) }, `SELECT count(*) FROM dead_letters WHERE `+condition, args...)
	if err != nil {
		return 0, unavailable(err)
	}
	return n, nil
}

func (s *Store) deadLetterCondition(q callback.DeadLetterQuery) (condition string, args []any) {
	condition = `failed_at >= ` + s.since
	args = []any{sql.Named("since", max(0, q.Since.UnixMicro()))} // the zero time is long before 1970
	if q.Reason != "" {
		condition += ` AND reason = @reason`
		args = append(args, sql.Named("reason", clean(string(q.Reason), maxName)))
	}
	if q.Sender != "" {
		condition += ` AND sender = @sender`
		args = append(args, sql.Named("sender", clean(q.Sender, maxName)))
	}
	return condition, args
}

// DeleteDeadLetters deletes those of letters that have not failed anew since they were read, and returns how many those were.
func (s *Store) DeleteDeadLetters(ctx context.Context, letters []callback.DeadLetter) (int, error) {
	if len(letters) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	deleted, err := s.exec(ctx, s.deleteDeadLetters, sql.Named("rows", deadLetterRows(letters)))
	if err != nil {
		return 0, unavailable(fmt.Errorf("deleting dead letters: %w", err))
	}
	return deleted, nil
}
