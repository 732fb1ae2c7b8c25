-- Durable promises of workflows.

CREATE TABLE promise (
    partition INTEGER NOT NULL,
    service TEXT NOT NULL,
    object_key TEXT NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (partition, service, object_key, name)
) STRICT, WITHOUT ROWID;
