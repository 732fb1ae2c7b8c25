-- What would make the row of an invocation grow without bound, and state entries that expire.

CREATE TABLE annex (
    partition INTEGER NOT NULL,
    invocation_id TEXT NOT NULL,
    slot TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (partition, invocation_id, slot)
) STRICT, WITHOUT ROWID;

ALTER TABLE state ADD COLUMN expires_at_ms INTEGER;
CREATE INDEX state_expiry ON state (partition, expires_at_ms) WHERE expires_at_ms IS NOT NULL;
