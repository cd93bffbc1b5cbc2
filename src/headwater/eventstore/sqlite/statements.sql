-- name: last_event
-- The head and the time recorded there.
SELECT position, time FROM events ORDER BY position DESC LIMIT 1;

-- name: head
SELECT coalesce(max(position), 0) FROM events;

-- name: version
SELECT coalesce(max(version), 0) FROM events WHERE stream = ?;

-- name: versions
-- One row for any number of streams: {rows} is replaced by (?), (?), ...
SELECT json_group_array((SELECT coalesce(max(version), 0) FROM events WHERE stream = column1))
FROM (VALUES {rows});

-- name: last_of_tags
SELECT json_group_array((SELECT coalesce(max(position), 0) FROM event_tags WHERE tag = column1))
FROM (VALUES {rows});

-- name: last_of_types
SELECT json_group_array((SELECT coalesce(max(position), 0) FROM events WHERE type = column1))
FROM (VALUES {rows});

-- name: outcomes
SELECT key, fingerprint, first, last, time, streams, versions
FROM event_keys
WHERE key IN (SELECT column1 FROM (VALUES {rows}));

-- name: insert_events
-- Many rows in one step; rows of NULL fill up to a size whose statement is cached.
INSERT INTO events (position, stream, version, type, type_version, time, tags, data, metadata)
SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL;

-- name: insert_tags
INSERT INTO event_tags (tag, position)
SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL;

-- name: insert_keys
INSERT INTO event_keys (key, fingerprint, first, last, time, streams, versions)
SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL;

-- name: save_snapshot
INSERT INTO event_snapshots (stream, version, fingerprint, data) VALUES (?, ?, ?, ?)
ON CONFLICT (stream) DO UPDATE
SET version = excluded.version, fingerprint = excluded.fingerprint, data = excluded.data
WHERE excluded.version >= event_snapshots.version;

-- name: load_snapshot
SELECT stream, version, fingerprint, data FROM event_snapshots WHERE stream = ?;

-- name: snapshots
-- The end is NULL for all from the beginning on.
SELECT stream, version, fingerprint, data FROM event_snapshots
WHERE stream >= :begin AND (:end IS NULL OR stream < :end) ORDER BY stream LIMIT :limit;

-- name: drop_snapshot
DELETE FROM event_snapshots WHERE stream = ?;

-- name: drop_snapshots
DELETE FROM event_snapshots WHERE stream >= :begin AND (:end IS NULL OR stream < :end);

-- name: tags
SELECT tags FROM events WHERE position = ?;

-- name: set_tags
UPDATE events SET tags = ? WHERE position = ?;

-- name: remove_tag
DELETE FROM event_tags WHERE tag = ? AND position = ?;

-- name: add_tag
INSERT INTO event_tags (tag, position) VALUES (?, ?);

-- name: position_at
-- The last event that was recorded early enough is in the last run that began early enough. Within
-- a run times never fall along positions, which are dense: build the position bit by bit, keeping
-- each bit that leads to an event recorded early enough (one that does not exist is not).
WITH RECURSIVE first (position) AS (
    SELECT coalesce(
        (SELECT position FROM event_runs WHERE time <= :time ORDER BY position DESC LIMIT 1), 1
    )
),
run (position, ending) AS (
    SELECT position, coalesce(
        (SELECT min(position) FROM event_runs WHERE position > first.position), 1 << 62
    )
    FROM first
),
search (position, ending, bit) AS (
    SELECT position - 1, ending, 1 << 47 FROM run
    UNION ALL
    SELECT
        position + CASE
            WHEN position + bit < ending
                AND (SELECT time FROM events WHERE position = search.position + bit) <= :time
            THEN bit
            ELSE 0
        END,
        ending,
        bit >> 1
    FROM search
    WHERE bit > 0
)
SELECT position FROM search WHERE bit = 0;

-- name: add_run
INSERT INTO event_runs (position, time) VALUES (?, ?);

-- name: forget_keys
-- Some of those whose outcome is not later than a position, the oldest first.
DELETE FROM event_keys WHERE key IN (
    SELECT key FROM event_keys WHERE last <= :position ORDER BY last LIMIT :limit
);

-- name: page
-- A page as one row, so that a reading thread takes the interpreter lock once and not per event:
-- a JSON array of everything but the contents, then all data, all metadata, and the head.
-- {selected} is a query for events in reading order; {head} one for the last number.
SELECT
    group_concat(
        json_array(
            position, stream, version, type, type_version, time, tags,
            length(data), length(metadata)
        )
    ),
    CAST(group_concat(data, '') AS BLOB),
    CAST(group_concat(metadata, '') AS BLOB),
    ({head})
FROM ({selected});

-- name: epoch
SELECT value FROM event_store WHERE name = 'epoch';

-- name: replace_epoch
UPDATE event_store SET value = ? WHERE name = 'epoch';

-- name: has_keys
SELECT EXISTS (SELECT 1 FROM event_keys);

-- name: keys
SELECT key, fingerprint, first, last, time, streams, versions FROM event_keys
WHERE key >= ? AND last >= ? ORDER BY key LIMIT ?;

-- name: set_epoch
INSERT OR IGNORE INTO event_store VALUES ('epoch', ?);

-- name: shard
SELECT value FROM event_store WHERE name = 'shard';

-- name: settle_shard
-- The first one stays; a log with events can only be a store by itself.
INSERT OR IGNORE INTO event_store
SELECT 'shard', :shard WHERE :whole OR NOT EXISTS (SELECT 1 FROM events);

-- name: probe
-- What an append does, taken back; then something of no meaning.
SAVEPOINT probe;
INSERT INTO events (position, version, time, type_version, stream, type, tags, data, metadata)
VALUES ((SELECT coalesce(max(position), 0) + 1 FROM events), -1, 0, 0, hex(randomblob(8)), '', '', X'', X'');
INSERT INTO event_tags (tag, position) VALUES (hex(randomblob(8)), -1);
INSERT INTO event_keys (key, fingerprint, first, last, time, streams, versions)
VALUES (hex(randomblob(8)), '', 0, 0, 0, '[]', '[]');
ROLLBACK TO SAVEPOINT probe;
INSERT INTO event_store (name, value) VALUES ('probe', '1')
ON CONFLICT (name) DO UPDATE SET value = 1 - value;
