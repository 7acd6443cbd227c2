-- +goose Up
-- Times are microseconds UTC: SQLite compares text, and texts of two time zones compare wrongly.
CREATE TABLE objects (
    id           INTEGER PRIMARY KEY,
    online       INTEGER NOT NULL,
    data         TEXT    NOT NULL,
    last_seen_at INTEGER NOT NULL,
    stored_at    INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    fetched_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX objects_expires_at ON objects (expires_at);

CREATE TABLE receipts (
    callback_id TEXT    PRIMARY KEY,
    sender      TEXT    NOT NULL,
    tag         TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    objects     INTEGER NOT NULL,
    stored      INTEGER NOT NULL,
    missing     INTEGER NOT NULL,
    skipped     INTEGER NOT NULL,
    failed      INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    done_at     INTEGER,
    written_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_written_at ON receipts (written_at);

CREATE TABLE dead_letters (
    sender      TEXT    NOT NULL,
    object_id   INTEGER NOT NULL,
    callback_id TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    failed_at   INTEGER NOT NULL,
    PRIMARY KEY (sender, object_id)
) STRICT, WITHOUT ROWID;
