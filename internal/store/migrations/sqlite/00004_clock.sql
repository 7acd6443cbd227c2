-- +goose Up
-- The last time that something was saved, by the clock that orders rows and lets them expire: it never runs back.
CREATE TABLE clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at  INTEGER NOT NULL
) STRICT;
INSERT INTO clock (one, at)
SELECT 1, max(coalesce((SELECT max(stored_at) FROM objects), 0), coalesce((SELECT max(written_at) FROM receipts), 0));
