-- +goose Up
-- Every row is rewritten or deleted within a TTL: vacuum by a small share of the table, or the oldest end of the index on expires_at,
-- where the expirer looks, fills with dead entries.
CREATE TABLE objects (
    id           bigint      PRIMARY KEY,
    online       boolean     NOT NULL,
    data         jsonb       NOT NULL,
    last_seen_at timestamptz NOT NULL,
    stored_at    timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    fetched_at   timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX objects_expires_at ON objects (expires_at);

CREATE TABLE receipts (
    callback_id text        PRIMARY KEY,
    sender      text        NOT NULL,
    tag         text        NOT NULL,
    status      text        NOT NULL,
    objects     bigint      NOT NULL,
    stored      bigint      NOT NULL,
    missing     bigint      NOT NULL,
    skipped     bigint      NOT NULL,
    failed      bigint      NOT NULL,
    received_at timestamptz NOT NULL,
    done_at     timestamptz,
    written_at  timestamptz NOT NULL
);
CREATE INDEX receipts_written_at ON receipts (written_at);

CREATE TABLE dead_letters (
    sender      text        NOT NULL,
    object_id   bigint      NOT NULL,
    callback_id text        NOT NULL,
    reason      text        NOT NULL,
    detail      text        NOT NULL,
    attempts    bigint      NOT NULL,
    failed_at   timestamptz NOT NULL,
    PRIMARY KEY (sender, object_id)
);
