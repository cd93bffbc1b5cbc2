-- name: id
SELECT id FROM config_store

-- name: latest
-- With its time, so that a database that was restored from a backup is noticed.
SELECT change, recorded, author FROM config_changes ORDER BY change DESC LIMIT 1

-- name: files
-- All files as they were after a change.
SELECT name, change, content FROM (
    SELECT DISTINCT ON (name) name, change, content FROM config_files
    WHERE change <= $1 ORDER BY name, change DESC
) AS latest
WHERE content IS NOT NULL ORDER BY name

-- name: lock
-- One process at a time makes a change, until its commit: so changes are dense, and become visible
-- in their order.
SELECT pg_advisory_xact_lock(hashtextextended('headwater config ' || current_schema(), 0))

-- name: add_change
INSERT INTO config_changes (change, author, comment) VALUES ($1, $2, $3) RETURNING recorded

-- name: add_files
INSERT INTO config_files (name, change, kind, content)
SELECT name, $1, kind, content
FROM unnest($2::text[], $3::text[], $4::text[]) AS given (name, kind, content)

-- name: history
SELECT change, recorded, author, comment FROM config_changes AS changes
WHERE $1 = '' OR EXISTS (
    SELECT FROM config_files AS files WHERE files.change = changes.change AND files.name = $1
)
ORDER BY change DESC LIMIT $2

-- name: touched
SELECT change, kind, name FROM config_files WHERE change = ANY ($1::bigint[]) ORDER BY name
