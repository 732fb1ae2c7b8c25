-- Endpoints that are registered by address. Both columns are NULL for workers, which dial in.

ALTER TABLE deployment ADD COLUMN endpoint BLOB;
ALTER TABLE deployment ADD COLUMN revisions BLOB;
