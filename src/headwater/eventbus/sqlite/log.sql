-- name: partitions
SELECT partitions FROM bus_settings

-- name: set_partitions
INSERT INTO bus_settings (partitions) VALUES (?)

-- name: origin
SELECT origin FROM bus_origins WHERE source = ? AND epoch = ?

-- name: add_origin
INSERT INTO bus_origins (source, epoch) VALUES (?, ?) RETURNING origin

-- name: known
SELECT position FROM bus_events
WHERE origin = ? AND position IN (SELECT value FROM json_each(?))

-- name: append
INSERT INTO bus_events (partition, partition_offset, document, origin, position)
VALUES (?, ?, ?, ?, ?)

-- name: begin
SELECT coalesce(min(partition_offset), 0) FROM bus_events WHERE partition = ?

-- name: end
SELECT coalesce(max(partition_offset), -1) FROM bus_events WHERE partition = ?

-- name: page
SELECT partition_offset, document FROM bus_events
WHERE partition = ? AND partition_offset > ?
ORDER BY partition_offset
LIMIT ?

-- name: types
SELECT document FROM bus_types

-- name: forget_types
DELETE FROM bus_types WHERE source = ?

-- name: add_type
INSERT INTO bus_types (source, name, document) VALUES (?, ?, ?)

-- name: grow
INSERT OR IGNORE INTO bus_growth
SELECT :partition, :until, :now, coalesce(sum(length(CAST(document AS BLOB))), 0)
FROM bus_events
WHERE partition = :partition AND partition_offset > coalesce(
    (SELECT max(partition_offset) FROM bus_growth WHERE partition = :partition), -1
)

-- name: growth
SELECT partition, partition_offset, at, bytes FROM bus_growth

-- name: readers
SELECT partition, min(partition_offset) FROM bus_readers WHERE seen > ? GROUP BY partition

-- name: note_reader
INSERT INTO bus_readers VALUES (:reader, :partition, :offset, :now)
ON CONFLICT (reader, partition) DO UPDATE SET
    partition_offset = excluded.partition_offset, seen = excluded.seen

-- name: forget
DELETE FROM bus_events
WHERE partition = ?1 AND partition_offset IN (
    SELECT partition_offset FROM bus_events
    WHERE partition = ?1 AND partition_offset <= ?2 ORDER BY partition_offset LIMIT ?3
)

-- name: forget_growth
DELETE FROM bus_growth WHERE partition = ? AND partition_offset <= ?
