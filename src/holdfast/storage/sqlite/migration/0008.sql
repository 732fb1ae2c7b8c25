-- What steps were, with the prompts of model calls; and large values, kept once.

CREATE TABLE detail (
    partition INTEGER NOT NULL,
    invocation_id TEXT NOT NULL,
    completion_id INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    service TEXT NOT NULL,
    -- Of the model or the tool.
    name TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX detail_key ON detail (invocation_id, completion_id, attempt);
CREATE INDEX detail_age ON detail (at_ms);

-- Messages at their places in prompts. Columns instead of `data`, so that SQL can follow a chain.
CREATE TABLE node (
    partition INTEGER NOT NULL,
    hash BLOB NOT NULL,
    parent BLOB NOT NULL,
    blob BLOB NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (partition, hash)
) STRICT, WITHOUT ROWID;

-- Counts are apart from what they count, which is large and never written again.
CREATE TABLE blob (
    partition INTEGER NOT NULL,
    hash BLOB NOT NULL,
    count INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (partition, hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE content (
    partition INTEGER NOT NULL,
    hash BLOB NOT NULL,
    data BLOB NOT NULL,
    chunks BLOB
) STRICT;
CREATE UNIQUE INDEX content_hash ON content (partition, hash);

-- Parts of large values; see `chunk.py`. `chunks`: where in `data` the parts belong, and their
-- hashes. NULL: `data` is all.
CREATE TABLE chunk (
    hash BLOB NOT NULL,
    data BLOB NOT NULL,
    chunks BLOB
) STRICT;
CREATE UNIQUE INDEX chunk_hash ON chunk (hash);
CREATE TABLE chunk_count (
    hash BLOB PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE journal ADD COLUMN chunks BLOB;
CREATE INDEX journal_chunked ON journal (serial) WHERE chunks IS NOT NULL;
ALTER TABLE state ADD COLUMN chunks BLOB;
