-- name: codes
SELECT processor, generation, code, complete, used FROM view_generations ORDER BY processor, generation

-- name: codes_of
SELECT processor, generation, code, complete, used FROM view_generations
WHERE processor = :processor
ORDER BY generation

-- name: shapes
SELECT name, generation, columns, processor FROM view_shapes

-- name: dropped
SELECT processor, last FROM view_dropped

-- name: segments
SELECT DISTINCT processor, generation FROM view_segments

-- name: active_view
SELECT max(shape.generation)
FROM view_shapes AS shape
JOIN view_generations AS known
  ON known.processor = shape.processor AND known.generation = shape.generation
WHERE shape.view = :view AND known.complete

-- name: add_shape
INSERT INTO view_shapes (view, generation, name, columns, processor)
VALUES (:name, :generation, :name, :columns, :processor)

-- name: own_shape
UPDATE view_shapes SET processor = :processor WHERE view = :name AND generation = :generation

-- name: drop_shape
DELETE FROM view_shapes WHERE view = :name AND generation = :generation

-- name: put
INSERT OR REPLACE INTO view_generations (processor, generation, code, complete, used)
VALUES (:processor, :generation, :code, :complete, :used)

-- name: use
UPDATE view_generations SET used = :used WHERE processor = :processor AND generation = :generation

-- name: forget
DELETE FROM view_generations WHERE processor = :processor AND generation = :generation

-- name: keep_last
INSERT INTO view_dropped (processor, last) VALUES (:processor, :last)
ON CONFLICT (processor) DO UPDATE SET last = max(last, excluded.last)
