-- name: fix_partitions
INSERT INTO bus_settings (partitions) VALUES ($1) ON CONFLICT DO NOTHING

-- name: partitions
SELECT partitions FROM bus_settings

-- name: add_origin
INSERT INTO bus_origins (source, epoch) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: origin
SELECT origin FROM bus_origins WHERE source = $1 AND epoch = $2

-- name: append
SELECT bus_append($1, $2, $3, $4)

-- name: begins
SELECT wanted, coalesce(
    (SELECT min(partition_offset) FROM bus_events WHERE partition = wanted), 0
)
FROM generate_series(0, $1::integer - 1) AS wanted

-- name: ends
SELECT wanted, coalesce(
    (SELECT max(partition_offset) FROM bus_events WHERE partition = wanted), -1
)
FROM generate_series(0, $1::integer - 1) AS wanted

-- name: page
-- The first partitions first; as a page fills up, the later ones are not looked at.
SELECT wanted.partition, found.partition_offset, found.document
FROM unnest($1::integer[], $2::bigint[]) AS wanted (partition, after)
CROSS JOIN LATERAL (
    SELECT partition_offset, document FROM bus_events
    WHERE partition = wanted.partition AND partition_offset > wanted.after
    ORDER BY partition_offset
    LIMIT $3
) AS found
LIMIT $3

-- name: lock_types
-- One announcement at a time; who only reads the log is not in the way.
LOCK TABLE bus_types IN EXCLUSIVE MODE

-- name: types
SELECT document FROM bus_types

-- name: forget_types
DELETE FROM bus_types WHERE source = $1

-- name: add_types
INSERT INTO bus_types (source, name, document)
SELECT $1, given.name, given.document FROM unnest($2::text[], $3::text[]) AS given (name, document)

-- name: lock_growth
-- One at a time; who only publishes or reads is not in the way.
LOCK TABLE bus_growth IN EXCLUSIVE MODE

-- name: grow
INSERT INTO bus_growth
SELECT $1, $2, $3, coalesce(sum(octet_length(document)), 0)
FROM bus_events
WHERE partition = $1 AND partition_offset <= $2 AND partition_offset > coalesce(
    (SELECT max(partition_offset) FROM bus_growth WHERE partition = $1), -1
)
ON CONFLICT DO NOTHING

-- name: growth
SELECT partition, partition_offset, at, bytes FROM bus_growth

-- name: readers
SELECT partition, min(partition_offset) FROM bus_readers WHERE seen > $1 GROUP BY partition

-- name: note_reader
INSERT INTO bus_readers
SELECT $1, given.*, $4 FROM unnest($2::integer[], $3::bigint[]) AS given ORDER BY 2
ON CONFLICT (reader, partition) DO UPDATE SET
    partition_offset = excluded.partition_offset, seen = excluded.seen

-- name: forget
DELETE FROM bus_events
WHERE partition = $1 AND partition_offset IN (
    SELECT partition_offset FROM bus_events
    WHERE partition = $1 AND partition_offset <= $2 ORDER BY partition_offset LIMIT $3
)

-- name: forget_growth
DELETE FROM bus_growth WHERE partition = $1 AND partition_offset <= $2
