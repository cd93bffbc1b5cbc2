-- name: has_schema
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1);

-- name: has_versions
SELECT to_regclass('headwater_schema') IS NOT NULL;

-- name: version
SELECT version FROM headwater_schema WHERE room = $1;

-- name: lock
-- One process at a time brings a schema up to date; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('headwater migrations ' || $1::text, 0));

-- name: create_versions
CREATE TABLE IF NOT EXISTS headwater_schema (room text PRIMARY KEY, version integer NOT NULL);

-- name: set_version
INSERT INTO headwater_schema (room, version) VALUES ($1, $2)
ON CONFLICT (room) DO UPDATE SET version = excluded.version;
