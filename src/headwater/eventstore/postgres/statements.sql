-- name: append
SELECT * FROM append_events(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24, $25, $26
);

-- name: append_single
SELECT * FROM append_single(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17
);

-- name: plan_once
SET plan_cache_mode = force_generic_plan;

-- name: resolve
SELECT * FROM resolve_batch($1, $2, $3);

-- name: register
INSERT INTO event_writers (writer, batch) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: forget_writers
DELETE FROM event_writers WHERE used < now() - interval '7 days';

-- name: head
SELECT coalesce(max(position), 0) AS head FROM events;

-- name: version
SELECT coalesce(max(version), 0) FROM events WHERE stream = $1;

-- name: outcomes
SELECT key, fingerprint, first, last, time, streams, versions
FROM event_keys WHERE key = ANY ($1::text[]);

-- name: save_snapshot
INSERT INTO event_snapshots (stream, version, fingerprint, data) VALUES ($1, $2, $3, $4)
ON CONFLICT (stream) DO UPDATE
SET version = excluded.version, fingerprint = excluded.fingerprint, data = excluded.data
WHERE excluded.version >= event_snapshots.version;

-- name: load_snapshot
SELECT version, fingerprint, data FROM event_snapshots WHERE stream = $1;

-- name: snapshots
-- The end is NULL for all from the beginning on.
SELECT stream, version, fingerprint, data FROM event_snapshots
WHERE stream >= $1 AND ($2::text IS NULL OR stream < $2) ORDER BY stream LIMIT $3;

-- name: drop_snapshot
DELETE FROM event_snapshots WHERE stream = $1;

-- name: drop_snapshots
DELETE FROM event_snapshots WHERE stream >= $1 AND ($2::text IS NULL OR stream < $2);

-- name: tags
-- Locked in order, so that two who give the same events other tags do not wait for each other.
SELECT position, tags FROM events WHERE position = ANY ($1::bigint[]) ORDER BY position FOR UPDATE;

-- name: set_tags
UPDATE events AS e SET tags = n.tags
FROM unnest($1::bigint[], $2::text[]) AS n (position, tags)
WHERE e.position = n.position;

-- name: remove_tags
DELETE FROM event_tags AS t
USING unnest($1::text[], $2::bigint[]) AS n (tag, position)
WHERE t.tag = n.tag AND t.position = n.position;

-- name: add_tags
INSERT INTO event_tags (tag, position) SELECT * FROM unnest($1::text[], $2::bigint[]);

-- name: position_at
-- The last event that was recorded early enough is in the last run that began early enough. Within
-- a run times never fall along positions, which are dense: build the position bit by bit, keeping
-- each bit that leads to an event recorded early enough (one that does not exist is not).
WITH RECURSIVE run AS (
    SELECT
        first.position,
        (SELECT min(r.position) FROM event_runs AS r WHERE r.position > first.position) AS ending
    FROM (
        SELECT coalesce((
            SELECT r.position FROM event_runs AS r
            WHERE r.time <= $1 ORDER BY r.position DESC LIMIT 1
        ), 1) AS position
    ) AS first
),
search (position, ending, bit) AS (
    SELECT run.position - 1, run.ending, 1::bigint << 47 FROM run
    UNION ALL
    SELECT
        s.position + CASE
            WHEN s.position + s.bit < coalesce(s.ending, s.position + s.bit + 1)
                AND (SELECT e.time FROM events AS e WHERE e.position = s.position + s.bit) <= $1
            THEN s.bit
            ELSE 0
        END,
        s.ending,
        s.bit >> 1
    FROM search AS s
    WHERE s.bit > 0
)
SELECT position FROM search WHERE bit = 0;

-- name: forget_keys
-- Some of those whose outcome is not later than a position, the oldest first.
DELETE FROM event_keys WHERE key IN (
    SELECT key FROM event_keys WHERE last <= $1 ORDER BY last LIMIT $2 FOR UPDATE SKIP LOCKED
);

-- name: add_runs
INSERT INTO event_runs (position, time) SELECT * FROM unnest($1::bigint[], $2::bigint[]);

-- name: epoch
SELECT value FROM event_store WHERE name = 'epoch';

-- name: replace_epoch
UPDATE event_store SET value = $1 WHERE name = 'epoch';

-- name: lock
-- That of append_events.
SELECT pg_advisory_xact_lock((1751474532::bigint << 32) | 'events'::regclass::oid::bigint);

-- name: import_state
SELECT
    (SELECT value FROM event_store WHERE name = 'epoch'),
    coalesce(e.position, 0),
    coalesce(e.time, 0),
    e.position IS NULL AND NOT EXISTS (SELECT FROM event_keys)
FROM (VALUES (1)) AS one
LEFT JOIN LATERAL (
    SELECT position, time FROM events ORDER BY position DESC LIMIT 1
) AS e ON true;

-- name: versions
SELECT array_agg(
    coalesce((
        SELECT e.version FROM events AS e
        WHERE e.stream = s.stream
        ORDER BY e.version DESC LIMIT 1
    ), 0)
    ORDER BY s.number
)
FROM unnest($1::text[]) WITH ORDINALITY AS s (stream, number);

-- name: keys
-- A bounded number of keys is looked through; the last of them comes along, to go on from there.
WITH scanned AS MATERIALIZED (
    SELECT * FROM event_keys WHERE key >= $1 ORDER BY key LIMIT $2
),
ending AS (SELECT max(key) AS key, count(*) AS scanned FROM scanned)
SELECT s.key, fingerprint, first, last, time, streams, versions, e.scanned
FROM scanned AS s CROSS JOIN ending AS e
WHERE s.last >= $3 OR s.key = e.key
ORDER BY s.key;

-- name: set_epoch
INSERT INTO event_store (name, value) VALUES ('epoch', $1) ON CONFLICT DO NOTHING;

-- name: shard
SELECT value FROM event_store WHERE name = 'shard';

-- name: settle_shard
-- The first one stays; a log with events can only be a store by itself.
INSERT INTO event_store (name, value)
SELECT 'shard', $1 WHERE $2 OR NOT EXISTS (SELECT FROM events)
ON CONFLICT DO NOTHING;

-- name: probe
-- What an append does, taken back; then something of no meaning.
SAVEPOINT probe;
INSERT INTO events (position, version, time, type_version, stream, type, tags, data, metadata)
VALUES (-1 - (random() * 9e18)::bigint, -1, 0, 0, gen_random_uuid()::text, '', '', '', '');
INSERT INTO event_tags (tag, position) VALUES (gen_random_uuid()::text, -1);
INSERT INTO event_keys (key, fingerprint, first, last, time, streams, versions)
VALUES (gen_random_uuid()::text, '', 0, 0, 0, '{}', '{}');
ROLLBACK TO SAVEPOINT probe;
INSERT INTO event_store (name, value) VALUES ('probe', '1')
ON CONFLICT (name) DO UPDATE SET value = (1 - event_store.value::integer)::text;
