-- name: codes
SELECT processor, generation, code, complete, used FROM view_generations ORDER BY processor, generation

-- name: codes_of
SELECT processor, generation, code, complete, used FROM view_generations
WHERE processor = $1
ORDER BY generation

-- name: shapes
SELECT name, generation, columns, processor FROM view_shapes

-- name: existing
SELECT name FROM unnest($1::text[]) WITH ORDINALITY AS given (name, place)
WHERE to_regclass(name) IS NOT NULL
ORDER BY place

-- name: dropped
SELECT processor, last FROM view_dropped

-- name: segments
SELECT DISTINCT processor, generation FROM view_segments

-- name: clock
SELECT extract(epoch FROM clock_timestamp())::double precision

-- name: active_view
SELECT max(shape.generation)
FROM view_shapes AS shape
JOIN view_generations AS known
  ON known.processor = shape.processor AND known.generation = shape.generation
WHERE shape.view = $1 AND known.complete

-- name: add_shape
INSERT INTO view_shapes (view, generation, name, columns, processor) VALUES ($1, $2, $3, $4, $5)

-- name: own_shape
UPDATE view_shapes SET processor = $3 WHERE view = $1 AND generation = $2

-- name: drop_shape
DELETE FROM view_shapes WHERE view = $1 AND generation = $2

-- name: put
INSERT INTO view_generations (processor, generation, code, complete, used) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (processor, generation)
DO UPDATE SET code = excluded.code, complete = excluded.complete, used = excluded.used

-- name: use
UPDATE view_generations
SET used = coalesce($3, extract(epoch FROM clock_timestamp())::double precision)
WHERE processor = $1 AND generation = $2

-- name: forget
DELETE FROM view_generations WHERE processor = $1 AND generation = $2

-- name: keep_last
INSERT INTO view_dropped (processor, last) VALUES ($1, $2)
ON CONFLICT (processor)
DO UPDATE SET last = greatest(view_dropped.last, excluded.last)
