-- name: lock
-- One process at a time changes shapes and generations; the number is arbitrary, but ours alone.
SELECT pg_advisory_xact_lock(7305817102946372433)

-- name: active
SELECT generation FROM view_generations WHERE kind = $1 AND name = $2

-- name: active_views
SELECT name, generation FROM view_generations WHERE kind = 'view'

-- name: set_active
INSERT INTO view_generations (kind, name, generation) VALUES ($1, $2, $3)
ON CONFLICT (kind, name) DO UPDATE SET generation = excluded.generation

-- name: shape
SELECT name, columns FROM view_shapes WHERE view = $1 AND generation = $2

-- name: shapes_before
SELECT generation FROM view_shapes WHERE view = $1 AND generation < $2 ORDER BY generation

-- name: add_shape
INSERT INTO view_shapes (view, generation, name, columns) VALUES ($1, $2, $3, $4)

-- name: drop_shape
DELETE FROM view_shapes WHERE view = $1 AND generation = $2
