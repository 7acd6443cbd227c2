-- +goose Up
-- Lists are in the order of ids, which is that of their bytes, whatever the database's language.
ALTER TABLE receipts ALTER COLUMN callback_id TYPE text COLLATE "C";
CREATE INDEX receipts_tag ON receipts (tag, callback_id);
CREATE INDEX receipts_sender ON receipts (sender, callback_id);
