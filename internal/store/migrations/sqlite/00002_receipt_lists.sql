-- +goose Up
CREATE INDEX receipts_tag ON receipts (tag, callback_id);
CREATE INDEX receipts_sender ON receipts (sender, callback_id);
