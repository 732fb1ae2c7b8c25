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
INSERT INTO journal (serial, idx, at_ms, note, child, data)
SELECT serial, ?2, ?3, ?4, ?5, ?6 FROM invocation WHERE id = ?1

-- name: delete_journal
DELETE FROM journal WHERE serial = (SELECT serial FROM invocation WHERE id = ?1)

-- name: journal
SELECT idx, at_ms, data FROM journal
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) ORDER BY idx

-- name: entry
SELECT data FROM journal
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND idx = ?2

-- name: has_notification
SELECT 1 FROM journal
WHERE serial = (SELECT serial FROM invocation WHERE id = ?1) AND note = ?2 LIMIT 1

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
INSERT OR REPLACE INTO state (partition, service, object_key, name, data, expires_at_ms)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)

-- name: delete_state
DELETE FROM state WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND name = ?4

-- name: load_state
SELECT data FROM state WHERE partition = ?1 AND service = ?2 AND object_key = ?3 AND name = ?4

-- name: clear_state
DELETE FROM state WHERE partition = ?1 AND service = ?2 AND object_key = ?3

-- name: state
SELECT name, data FROM state WHERE partition = ?1 AND service = ?2 AND object_key = ?3
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
SELECT invocation.id, idx, at_ms, journal.data FROM invocation
JOIN journal ON journal.serial = invocation.serial
WHERE {filter} ORDER BY invocation.serial, idx LIMIT {limit}

-- name: scan_lock
SELECT service, object_key, '', data FROM lock WHERE {filter} LIMIT {limit}

-- name: scan_state
SELECT service, object_key, name, data FROM state WHERE {filter} LIMIT {limit}

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
