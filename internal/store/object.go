package store

import (
	"context"
	"database/sql"
	"slices"

	"callback-service/internal/callback"
)

const selectObjects = `SELECT id, online, data, last_seen_at, stored_at, expires_at, fetched_at FROM objects WHERE expires_at > `

// Object returns one object. Errors are *callback.Error: NotFound when there is none or it has expired, Unavailable when the database does not answer.
func (s *Store) Object(ctx context.Context, id int64) (callback.Object, error) {
	objects, err := s.readObjects(ctx, ` AND id = @id`, sql.Named("id", id))
	if err != nil {
		return callback.Object{}, err
	}
	if objects = s.unexpired(objects); len(objects) == 0 {
		return callback.Object{}, callback.Errorf(callback.NotFound, "object %d is not stored", id)
	}
	return objects[0], nil
}

// Objects returns the objects that have not expired, by id. Errors are *callback.Error: Unavailable when the database does not answer.
func (s *Store) Objects(ctx context.Context, q callback.ObjectQuery) (found []callback.Object, err error) {
	condition := ` AND id > @after`
	var args []any
	if q.Online != nil {
		condition += ` AND online = @online`
		args = append(args, sql.Named("online", *q.Online))
	}
	for {
		limit := q.Limit - len(found)
		page, err := s.readObjects(ctx, condition+` ORDER BY id LIMIT @limit`,
			append(args, sql.Named("after", q.After), sql.Named("limit", limit))...)
		if err != nil {
			return nil, err
		}
		found = s.unexpired(append(found, page...))
		if len(page) < limit || len(found) == q.Limit {
			return found, nil
		}
		q.After = page[len(page)-1].ID // some of a full page expired: the next ones take their places
	}
}

// unexpired leaves out what has expired while it was read. Of PostgreSQL the database alone knows.
func (s *Store) unexpired(objects []callback.Object) []callback.Object {
	if !s.embedded {
		return objects
	}
	now := s.clock.now()
	return slices.DeleteFunc(objects, func(o callback.Object) bool { return o.ExpiresAt.UnixMicro() <= now })
}

func (s *Store) readObjects(ctx context.Context, condition string, args ...any) ([]callback.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	var objects []callback.Object
	err := s.query(ctx, answering, func(rows *sql.Rows) error {
		var o callback.Object
		err := rows.Scan(&o.ID, &o.Online, (*[]byte)(&o.Data), instant{&o.LastSeenAt}, instant{&o.StoredAt}, instant{&o.ExpiresAt}, instant{&o.FetchedAt})
		objects = append(objects, o)
		return err
	}, selectObjects+s.now+condition, args...)
	if err != nil {
		return nil, unavailable(err)
	}
	return objects, nil
}
