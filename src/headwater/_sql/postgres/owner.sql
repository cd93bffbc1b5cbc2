-- name: has_owners
SELECT to_regclass('headwater_owners') IS NOT NULL;

-- name: owner
SELECT service FROM headwater_owners WHERE room = $1;

-- name: lock
-- One process at a time settles whose a schema is; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('headwater owners ' || $1::text, 0));

-- name: create_owners
CREATE TABLE IF NOT EXISTS headwater_owners (room text PRIMARY KEY, service text NOT NULL);

-- name: set_owner
INSERT INTO headwater_owners (room, service) VALUES ($1, $2) ON CONFLICT DO NOTHING;
