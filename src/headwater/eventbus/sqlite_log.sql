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
