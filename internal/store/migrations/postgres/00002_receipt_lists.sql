-- +goose NO TRANSACTION
-- +goose Up
-- Lists are in the order of ids, which is that of their bytes, whatever the database's language. Indexes are made while other replicas write,
-- so that no lock is held for longer than a moment; what an attempt has left behind that did not finish is dropped first.
DROP INDEX CONCURRENTLY IF EXISTS receipts_key;
CREATE UNIQUE INDEX CONCURRENTLY receipts_key ON receipts (callback_id COLLATE "C");
-- +goose StatementBegin
DO $$
BEGIN
    PERFORM set_config('lock_timeout', '1s', true); -- others wait behind it
    ALTER TABLE receipts DROP CONSTRAINT receipts_pkey, ALTER COLUMN callback_id TYPE text COLLATE "C"; -- rewrites neither rows nor indexes
    ALTER TABLE receipts ADD CONSTRAINT receipts_pkey PRIMARY KEY USING INDEX receipts_key;
END
$$;
-- +goose StatementEnd
DROP INDEX CONCURRENTLY IF EXISTS receipts_tag;
CREATE INDEX CONCURRENTLY receipts_tag ON receipts (tag, callback_id);
DROP INDEX CONCURRENTLY IF EXISTS receipts_sender;
CREATE INDEX CONCURRENTLY receipts_sender ON receipts (sender, callback_id);
