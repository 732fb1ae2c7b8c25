-- Every statement that the store runs on its tables, by name. `query.py` reads this file.

-- name: begin
BEGIN IMMEDIATE

-- name: commit
COMMIT

-- name: rollback
ROLLBACK

-- name: begin_read
BEGIN DEFERRED

-- name: epoch
SELECT epoch FROM lease WHERE partition = ?1

-- name: raise_epoch
INSERT INTO lease (partition, epoch, owner, at_ms) VALUES (?1, 1, ?2, ?3)
ON CONFLICT (partition)
DO UPDATE SET epoch = epoch + 1, owner = excluded.owner, at_ms = excluded.at_ms
RETURNING epoch

-- Most writes change only `data`. This one touches no index; it changes nothing when the row is
-- new or differs in another column, and then `put_invocation` follows.
-- name: touch_invocation
UPDATE invocation SET data = ?9
WHERE id = ?1 AND partition = ?2 AND status = ?3 AND service = ?4 AND handler = ?5
AND object_key IS ?6 AND created_at_ms = ?7 AND expires_at_ms IS ?8

-- name: put_invocation
INSERT INTO invocation
(id, partition, status, service, handler, object_key, created_at_ms, expires_at_ms, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, service = excluded.service,
handler = excluded.handler, object_key = excluded.object_key,
expires_at_ms = excluded.expires_at_ms, data = excluded.data
WHERE created_at_ms = excluded.created_at_ms

-- The same id at another time: made again after its retention. Rare, so it may touch every index.
-- name: remake_invocation
UPDATE invocation SET partition = ?2, status = ?3, service = ?4, handler = ?5, object_key = ?6,
created_at_ms = ?7, expires_at_ms = ?8, data = ?9
WHERE id = ?1

-- name: delete_invocation
DELETE FROM invocation WHERE id = ?1

-- name: load_invocation
SELECT data FROM invocation WHERE id = ?1

-- name: put_entry
INSERT INTO journal (serial, idx, at_ms, note, child, data, chunks)
SELECT serial, ?2, ?3, ?4, ?5, ?6, ?7 FROM invocation WHERE id = ?1

-- name: delete_journal
DELETE FROM journal WHERE serial = (SELECT serial FROM invocation WHERE id = ?1)

-- name: journal_chunks
SELECT chunks FROM journal
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND chunks IS NOT NULL

-- `whole` puts the parts of a large value back; see `chunk.py`.
-- name: journal
SELECT idx, at_ms, iif(chunks IS NULL, data, whole(data, chunks)) FROM journal
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) ORDER BY idx

-- name: entry
SELECT iif(chunks IS NULL, data, whole(data, chunks)) FROM journal
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND idx = ?2

-- name: notification
SELECT idx FROM journal
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND note = ?2 ORDER BY idx LIMIT 1

-- name: children
SELECT child FROM journal
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND child IS NOT NULL ORDER BY idx

-- name: put_lock
INSERT OR REPLACE INTO lock (partition, service, object_key, data) VALUES (?1, ?2, ?3, ?4)

-- name: delete_lock
DELETE FROM lock WHERE partition = ?1 AND service = ?2 AND object_key = ?3

-- name: load_lock
SELECT data FROM lock WHERE partition = ?1 AND service = ?2 AND object_key = ?3

-- name: put_inbox
INSERT OR REPLACE INTO inbox (partition, service, object_key, sequence, data)
VALUES (?1, ?2, ?3, ?4, ?5)

-- name: delete_inbox
DELETE FROM inbox WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND sequence = ?4

-- name: load_inbox
SELECT data FROM inbox
WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND sequence = ?4

-- name: put_timer
INSERT OR IGNORE INTO timer (partition, at_ms, invocation_id, slot) VALUES (?1, ?2, ?3, ?4)

-- name: delete_timer
DELETE FROM timer WHERE partition = ?1 AND at_ms = ?2 AND invocation_id = ?3 AND slot = ?4

-- name: load_timer
SELECT 1 FROM timer WHERE partition = ?1 AND at_ms = ?2 AND invocation_id = ?3 AND slot = ?4

-- name: delete_timers
DELETE FROM timer WHERE invocation_id = ?1

-- name: timers
SELECT at_ms, invocation_id, slot FROM timer
WHERE partition = ?1 AND (at_ms, invocation_id, slot) > (?2, ?3, ?4)
ORDER BY at_ms, invocation_id, slot LIMIT ?5

-- name: put_state
INSERT OR REPLACE INTO state (partition, service, object_key, name, data, expires_at_ms, chunks)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)

-- name: state_chunks
SELECT chunks FROM state
WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND name = ?4

-- name: all_state_chunks
SELECT chunks FROM state WHERE partition = ?1 AND service = ?2 AND object_key = ?3

-- name: delete_state
DELETE FROM state WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND name = ?4

-- name: load_state
SELECT iif(chunks IS NULL, data, whole(data, chunks)) FROM state
WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND name = ?4

-- name: clear_state
DELETE FROM state WHERE partition = ?1 AND service = ?2 AND object_key = ?3

-- name: state
SELECT name, iif(chunks IS NULL, data, whole(data, chunks)) FROM state
WHERE partition = ?1 AND service = ?2 AND object_key = ?3
AND (expires_at_ms IS NULL OR expires_at_ms > ?4) ORDER BY name

-- name: state_names
SELECT name FROM state WHERE partition = ?1 AND service = ?2 AND object_key = ?3
AND (expires_at_ms IS NULL OR expires_at_ms > ?4) ORDER BY name

-- name: state_keys
SELECT DISTINCT object_key FROM state
WHERE partition = ?1 AND service = ?2 AND object_key > ?3
AND (expires_at_ms IS NULL OR expires_at_ms > ?4) ORDER BY object_key LIMIT ?5

-- name: expired_state
SELECT service, object_key, name FROM state
WHERE partition = ?1 AND expires_at_ms IS NOT NULL AND expires_at_ms <= ?2
ORDER BY expires_at_ms LIMIT ?3

-- name: put_annex
INSERT OR REPLACE INTO annex (partition, invocation_id, slot, data) VALUES (?1, ?2, ?3, ?4)

-- name: delete_annex
DELETE FROM annex WHERE partition = ?1 AND invocation_id = ?2 AND slot = ?3

-- name: load_annex
SELECT data FROM annex WHERE partition = ?1 AND invocation_id = ?2 AND slot = ?3

-- Slots of sinks, and of nothing else, begin with `s`.
-- name: annex_sinks
SELECT data FROM annex
WHERE partition = ?1 AND invocation_id = ?2 AND slot >= 's' AND slot < 't' ORDER BY slot

-- name: clear_annex
DELETE FROM annex WHERE partition = ?1 AND invocation_id = ?2

-- name: put_promise
INSERT OR REPLACE INTO promise (partition, service, object_key, name, data)
VALUES (?1, ?2, ?3, ?4, ?5)

-- name: delete_promise
DELETE FROM promise WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND name = ?4

-- name: load_promise
SELECT data FROM promise
WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND name = ?4

-- name: promise_names
SELECT name FROM promise WHERE partition = ?1 AND service = ?2 AND object_key = ?3 ORDER BY name

-- name: put_approval
INSERT OR REPLACE INTO approval
(partition, invocation_id, idx, status, service, assignees, asked_at_ms, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: delete_approval
DELETE FROM approval WHERE partition = ?1 AND invocation_id = ?2 AND idx = ?3

-- name: load_approval
SELECT data FROM approval WHERE partition = ?1 AND invocation_id = ?2 AND idx = ?3

-- Status 0 is OPEN.
-- name: approval_indexes
SELECT idx FROM approval
WHERE partition = ?1 AND invocation_id = ?2 AND (?3 = 0 OR status = 0) ORDER BY idx

-- {filter} is none or more conditions, made by `approval.py`.
-- name: approvals
SELECT invocation_id, idx, data FROM approval
WHERE (asked_at_ms, invocation_id, idx) < (?1, ?2, ?3) {filter}
ORDER BY asked_at_ms DESC, invocation_id DESC, idx DESC LIMIT ?4

-- name: keep_secret
INSERT OR IGNORE INTO meta (name, value) VALUES (?1, ?2)

-- name: meta
SELECT value FROM meta WHERE name = ?1

-- name: put_outbox
INSERT OR REPLACE INTO outbox (partition, sequence, data) VALUES (?1, ?2, ?3)

-- name: delete_outbox
DELETE FROM outbox WHERE partition = ?1 AND sequence = ?2

-- name: load_outbox
SELECT data FROM outbox WHERE partition = ?1 AND sequence = ?2

-- name: outbox
SELECT sequence, data FROM outbox WHERE partition = ?1 AND sequence > ?2
ORDER BY sequence LIMIT ?3

-- name: put_dedup
INSERT OR REPLACE INTO dedup (partition, sender, data) VALUES (?1, ?2, ?3)

-- name: delete_dedup
DELETE FROM dedup WHERE partition = ?1 AND sender = ?2

-- name: load_dedup
SELECT data FROM dedup WHERE partition = ?1 AND sender = ?2

-- name: put_counter
INSERT OR REPLACE INTO counter (partition, data) VALUES (?1, ?2)

-- name: delete_counter
DELETE FROM counter WHERE partition = ?1

-- name: load_counter
SELECT data FROM counter WHERE partition = ?1

-- name: live_with_status
SELECT data FROM invocation
WHERE partition = ?1 AND status = ?2 AND status != 6 AND id > ?3 ORDER BY id LIMIT ?4

-- name: completed
SELECT data FROM invocation WHERE partition = ?1 AND status = 6 AND id > ?2 ORDER BY id LIMIT ?3

-- name: expired
SELECT id FROM invocation
WHERE partition = ?1 AND expires_at_ms IS NOT NULL AND expires_at_ms <= ?2
ORDER BY expires_at_ms, id LIMIT ?3

-- {filter} is one or more conditions, made by `store.py`.
-- name: invocations
SELECT data FROM invocation
WHERE (created_at_ms, id) < (?1, ?2) {filter}
ORDER BY created_at_ms DESC, id DESC LIMIT ?3

-- The same when no completed ones are wanted: reads the index of the live ones, then the page.
-- name: live_invocations
SELECT data FROM invocation WHERE serial IN (
SELECT serial FROM invocation INDEXED BY invocation_live
WHERE status != 6 AND (created_at_ms, id) < (?1, ?2) {filter}
ORDER BY created_at_ms DESC, id DESC LIMIT ?3)
ORDER BY created_at_ms DESC, id DESC

-- Scans, made by `scan.py`: {filter} is one or more conditions, {limit} a binding, -1 for none.
-- name: scan_invocation
SELECT data FROM invocation WHERE {filter} {order}LIMIT {limit}

-- The same when no completed ones are wanted: reads the index of the live ones, then the rows.
-- name: scan_live
SELECT data FROM invocation WHERE serial IN (
SELECT serial FROM invocation INDEXED BY invocation_live WHERE {filter} {order}LIMIT {limit})
{order}

-- name: scan_journal
SELECT invocation.id, idx, at_ms,
iif(chunks IS NULL, journal.data, whole(journal.data, chunks)) FROM invocation
JOIN journal ON journal.serial = invocation.serial
WHERE {filter} ORDER BY invocation.serial, idx LIMIT {limit}

-- name: scan_lock
SELECT service, object_key, '', data FROM lock WHERE {filter} LIMIT {limit}

-- name: scan_state
SELECT service, object_key, name, iif(chunks IS NULL, data, whole(data, chunks)) FROM state
WHERE {filter} LIMIT {limit}

-- name: scan_detail
SELECT invocation_id, completion_id, attempt, data FROM detail
WHERE {filter} {order}LIMIT {limit}

-- name: scan_promise
SELECT service, object_key, name, data FROM promise WHERE {filter} LIMIT {limit}

-- name: put_deployment
INSERT OR REPLACE INTO deployment
(id, name, created_at_ms, revision, manifest, endpoint, revisions, settings)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: delete_deployment
DELETE FROM deployment WHERE id = ?1

-- name: deployments
SELECT id, name, created_at_ms, revision, manifest, endpoint, revisions, settings
FROM deployment ORDER BY created_at_ms, id

-- name: put_stream
INSERT OR REPLACE INTO stream (serial, name, first_id, lane, data)
SELECT serial, ?2, ?3, ?4, ?5 FROM invocation WHERE id = ?1

-- name: delete_streams
DELETE FROM stream WHERE serial = (SELECT serial FROM invocation WHERE id = ?1)

-- name: delete_lane
DELETE FROM stream
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND name = ?2
AND first_id >= ?4 AND lane = ?3

-- From the last row that may reach beyond ?3.
-- name: stream
SELECT first_id, data FROM stream
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND name = ?2
AND first_id >= coalesce((SELECT max(first_id) FROM stream
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND name = ?2
AND first_id <= ?3 + 1), 0)
ORDER BY first_id

-- name: add_chunk
INSERT INTO chunk_count (hash, count) VALUES (?1, ?2)
ON CONFLICT (hash) DO UPDATE SET count = count + excluded.count RETURNING count

-- name: put_chunk
INSERT INTO chunk (hash, data, chunks) VALUES (?1, ?2, ?3)

-- name: chunk_parts
SELECT chunks FROM chunk WHERE hash = ?1

-- name: load_chunk
SELECT data, chunks FROM chunk WHERE hash = ?1

-- name: delete_chunk
DELETE FROM chunk WHERE hash = ?1

-- name: delete_chunk_count
DELETE FROM chunk_count WHERE hash = ?1

-- name: put_detail
INSERT OR REPLACE INTO detail
(partition, invocation_id, completion_id, attempt, at_ms, kind, service, name, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)

-- name: delete_detail
DELETE FROM detail
WHERE partition = ?1 AND invocation_id = ?2 AND completion_id = ?3 AND attempt = ?4

-- name: load_detail
SELECT data FROM detail
WHERE partition = ?1 AND invocation_id = ?2 AND completion_id = ?3 AND attempt = ?4

-- name: details
SELECT invocation_id, completion_id, attempt, data FROM detail
WHERE partition = ?1 AND invocation_id = ?2 ORDER BY completion_id, attempt

-- name: put_node
INSERT OR REPLACE INTO node (partition, hash, parent, blob, count) VALUES (?1, ?2, ?3, ?4, ?5)

-- name: delete_node
DELETE FROM node WHERE partition = ?1 AND hash = ?2

-- name: load_node
SELECT parent, blob, count FROM node WHERE partition = ?1 AND hash = ?2

-- 64: CHAIN_NODES_MAX.
-- name: chain
WITH RECURSIVE chain (hash, parent, blob, count, place) AS (
SELECT hash, parent, blob, count, 1 FROM node WHERE partition = ?1 AND hash = ?2
UNION ALL
SELECT node.hash, node.parent, node.blob, node.count, place + 1 FROM chain
JOIN node ON node.partition = ?1 AND node.hash = chain.parent WHERE place < 64)
SELECT hash, parent, blob, count FROM chain ORDER BY place

-- name: prompt
WITH RECURSIVE chain (parent, blob, place) AS (
SELECT parent, blob, 1 FROM node WHERE partition = ?1 AND hash = ?2
UNION ALL
SELECT node.parent, node.blob, place + 1 FROM chain
JOIN node ON node.partition = ?1 AND node.hash = chain.parent)
SELECT iif(chunks IS NULL, data, whole(data, chunks)) FROM chain
JOIN content ON content.partition = ?1 AND content.hash = chain.blob ORDER BY place DESC

-- name: put_blob
INSERT OR REPLACE INTO blob (partition, hash, count, size_bytes) VALUES (?1, ?2, ?3, ?4)

-- name: delete_blob
DELETE FROM blob WHERE partition = ?1 AND hash = ?2

-- name: load_blob
SELECT count, size_bytes FROM blob WHERE partition = ?1 AND hash = ?2

-- name: put_content
INSERT OR REPLACE INTO content (partition, hash, data, chunks) VALUES (?1, ?2, ?3, ?4)

-- name: content_chunks
SELECT chunks FROM content WHERE partition = ?1 AND hash = ?2

-- name: delete_content
DELETE FROM content WHERE partition = ?1 AND hash = ?2

-- name: load_content
SELECT iif(chunks IS NULL, data, whole(data, chunks)) FROM content WHERE partition = ?1 AND hash = ?2
