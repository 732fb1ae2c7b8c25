-- Streams of invocations: chunks that handlers emit. `data` holds chunks of one lane, with ids one
-- after another from `first_id` on. Tied to `serial`, as journals are.

CREATE TABLE stream (
    serial INTEGER NOT NULL,
    name TEXT NOT NULL,
    first_id INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (serial, name, first_id)
) STRICT, WITHOUT ROWID;
