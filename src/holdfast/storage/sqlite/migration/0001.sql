-- The first schema. `data` is a row of the engine as msgpack; the columns beside it are only those
-- that a question needs. Times are milliseconds since the epoch.

CREATE TABLE migration (
    version INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lease (
    partition INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

-- Ids are random, so whatever is kept in their order costs one page of disk per row. Journals are
-- therefore tied to `serial`, which grows, and the only random index is the one on the id.
CREATE TABLE invocation (
    serial INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    partition INTEGER NOT NULL,
    status INTEGER NOT NULL,
    service TEXT NOT NULL,
    handler TEXT NOT NULL,
    object_key TEXT,
    created_at_ms INTEGER NOT NULL,
    -- Only while it is completed and has a retention.
    expires_at_ms INTEGER,
    data BLOB NOT NULL
) STRICT;

-- Status 6 is COMPLETED: what is done, which is nearly all, costs no place in this index.
CREATE INDEX invocation_live ON invocation (partition, status, id, created_at_ms)
    WHERE status != 6;
CREATE INDEX invocation_expiry ON invocation (partition, expires_at_ms)
    WHERE expires_at_ms IS NOT NULL;
CREATE INDEX invocation_age ON invocation (created_at_ms);

-- A heap with a narrow index: entries of many invocations that are written together share pages.
CREATE TABLE journal (
    serial INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    note TEXT,
    child TEXT,
    data BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX journal_order ON journal (serial, idx);
CREATE INDEX journal_note ON journal (serial, note) WHERE note IS NOT NULL;

CREATE TABLE lock (
    partition INTEGER NOT NULL,
    service TEXT NOT NULL,
    object_key TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (partition, service, object_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    partition INTEGER NOT NULL,
    service TEXT NOT NULL,
    object_key TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (partition, service, object_key, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE timer (
    partition INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    invocation_id TEXT NOT NULL,
    slot TEXT NOT NULL,
    PRIMARY KEY (partition, at_ms, invocation_id, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX timer_invocation ON timer (invocation_id);

CREATE TABLE state (
    partition INTEGER NOT NULL,
    service TEXT NOT NULL,
    object_key TEXT NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (partition, service, object_key, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    partition INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (partition, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE dedup (
    partition INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (partition, sender)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    partition INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE deployment (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    manifest BLOB NOT NULL
) STRICT, WITHOUT ROWID;
