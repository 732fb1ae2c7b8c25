-- Approvals: questions of handlers to people. They go with their invocations.

CREATE TABLE approval (
    partition INTEGER NOT NULL,
    invocation_id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    status INTEGER NOT NULL,
    service TEXT NOT NULL,
    -- One per line, with a line end before the first and behind the last.
    assignees TEXT NOT NULL,
    asked_at_ms INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (partition, invocation_id, idx)
) STRICT, WITHOUT ROWID;

-- Status 0 is OPEN: the inbox, which people look at most.
CREATE INDEX approval_open ON approval (asked_at_ms, invocation_id, idx) WHERE status = 0;
CREATE INDEX approval_age ON approval (asked_at_ms, invocation_id, idx);
