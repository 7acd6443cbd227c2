-- +goose NO TRANSACTION
-- +goose Up
-- There are hardly ever any: the index is empty, and costs nothing. It is made while other replicas write. One that was not finished is
-- there, and invalid.
DROP INDEX CONCURRENTLY IF EXISTS receipts_damaged;
CREATE INDEX CONCURRENTLY receipts_damaged ON receipts (callback_id) WHERE status = 'damaged';
