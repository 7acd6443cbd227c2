-- +goose Up
-- There are hardly ever any: the index is empty, and costs nothing.
CREATE INDEX receipts_damaged ON receipts (callback_id) WHERE status = 'damaged';
