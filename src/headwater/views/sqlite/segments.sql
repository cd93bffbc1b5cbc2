-- name: all
SELECT processor, generation, number, count, token, owner, lease_until, fence
FROM view_segments
ORDER BY processor, generation, number

-- name: of_processor
SELECT processor, generation, number, count, token, owner, lease_until, fence
FROM view_segments
WHERE processor = :processor
ORDER BY processor, generation, number

-- name: of_generation
SELECT processor, generation, number, count, token, owner, lease_until, fence
FROM view_segments
WHERE processor = :processor AND generation = :generation
ORDER BY number

-- name: make
-- Fences go on above those of segments that were dropped.
INSERT INTO view_segments (processor, generation, number, count, token, fence)
SELECT :processor, :generation, :number, :count, :token, coalesce(
    (SELECT fence FROM view_dropped WHERE processor = :processor), 0)

-- name: put
INSERT INTO view_segments (processor, generation, number, count, token, owner, lease_until, fence)
VALUES (:processor, :generation, :number, :count, :token, :owner, :lease_until, :fence)

-- name: claim
UPDATE view_segments
SET owner = :owner, lease_until = :now + :lease_s, fence = fence + 1
WHERE processor = :processor AND generation = :generation AND number = :number AND count = :count
  AND (owner = '' OR lease_until <= :now OR lease_until > :now + :lease_s_max
       OR (:restarted AND owner = :owner))
RETURNING processor, generation, number, count, token, owner, lease_until, fence

-- name: renew
UPDATE view_segments
SET lease_until = :now + :lease_s
WHERE processor = :processor AND generation = :generation AND number = :number AND count = :count
  AND owner = :owner AND fence = :fence AND owner <> ''
RETURNING processor, generation, number, count, token, owner, lease_until, fence

-- name: release
UPDATE view_segments
SET owner = '', lease_until = 0.0
WHERE processor = :processor AND generation = :generation AND number = :number AND count = :count
  AND owner = :owner AND fence = :fence

-- name: advance
UPDATE view_segments
SET token = :token
WHERE processor = :processor AND generation = :generation AND number = :number AND count = :count
  AND owner = :owner AND fence = :fence AND owner <> ''

-- name: advance_all
UPDATE view_segments
SET token = :token
WHERE processor = :processor AND generation = :generation AND owner = :owner AND owner <> ''
  AND (number, count, fence) IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:claims))

-- name: reset
UPDATE view_segments
SET token = :token, owner = '', lease_until = 0.0, fence = fence + 1
WHERE processor = :processor AND generation = :generation

-- name: drop
DELETE FROM view_segments
WHERE processor = :processor AND generation = :generation

-- name: keep_fence
INSERT INTO view_dropped (processor, fence) VALUES (:processor, :fence)
ON CONFLICT (processor) DO UPDATE SET fence = max(fence, excluded.fence)
