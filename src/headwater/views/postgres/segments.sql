-- Whoever locks several rows does so in order of the key, so that no two transactions wait for each
-- other: an UPDATE by itself takes them as they lie in the table. What changes which rows there are
-- holds `lock_all` before.

-- name: lock_all
-- One process at a time changes shapes, generations and sets of segments; the number is arbitrary,
-- but ours alone.
SELECT pg_advisory_xact_lock(7305817102946372433)

-- name: all
SELECT processor, generation, number, count, token, owner, lease_until, fence
FROM view_segments
ORDER BY processor, generation, number

-- name: of_processor
SELECT processor, generation, number, count, token, owner, lease_until, fence
FROM view_segments
WHERE processor = $1
ORDER BY processor, generation, number

-- name: of_generation
SELECT processor, generation, number, count, token, owner, lease_until, fence
FROM view_segments
WHERE processor = $1 AND generation = $2
ORDER BY number

-- name: make
-- Fences go on above those of segments that were dropped.
INSERT INTO view_segments (processor, generation, number, count, token, fence)
SELECT $1, $2, number, $3, $4, coalesce(
    (SELECT dropped.fence FROM view_dropped AS dropped WHERE dropped.processor = $1), 0)
FROM generate_series(0, $3 - 1) AS number
RETURNING processor, generation, number, count, token, owner, lease_until, fence

-- name: lock
SELECT processor, generation, number, count, token, owner, lease_until, fence
FROM view_segments
WHERE processor = $1 AND generation = $2
ORDER BY number
FOR UPDATE

-- name: held
SELECT EXISTS (
    SELECT FROM view_segments
    WHERE processor = $1 AND generation = $2 AND owner <> ''
      AND lease_until > now.now AND lease_until <= now.now + $4)
FROM (
    SELECT coalesce($3, extract(epoch FROM clock_timestamp())::double precision) AS now
) AS now

-- name: put
INSERT INTO view_segments
       (processor, generation, number, count, owner, token, lease_until, fence)
SELECT made.*, $8
FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::text[],
            $7::double precision[]) AS made

-- name: claim
-- Without a clock ($7 is null) the database's own counts, which is one for all machines. A row
-- that a running transaction has locked is being worked on: it is not waited for.
UPDATE view_segments
SET owner = $5,
    lease_until = coalesce($7, extract(epoch FROM clock_timestamp())::double precision) + $6,
    fence = fence + 1
WHERE (processor, generation, number, count) IN (
    SELECT processor, generation, number, count
    FROM view_segments
    WHERE processor = $1 AND generation = $2 AND number = $3 AND count = $4
      AND (owner = '' OR ($8 AND owner = $5)
           OR lease_until <= coalesce($7, extract(epoch FROM clock_timestamp())::double precision)
           OR lease_until - $9
              > coalesce($7, extract(epoch FROM clock_timestamp())::double precision))
    FOR UPDATE SKIP LOCKED)
RETURNING processor, generation, number, count, token, owner, lease_until, fence

-- name: renew
WITH locked AS (
    SELECT mine.processor, mine.generation, mine.number, mine.count
    FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::bigint[])
         AS held (processor, generation, number, count, owner, fence)
    JOIN view_segments AS mine USING (processor, generation, number, count, owner, fence)
    WHERE mine.owner <> ''
    ORDER BY mine.processor, mine.generation, mine.number, mine.count
    FOR NO KEY UPDATE OF mine)
UPDATE view_segments AS mine
SET lease_until = coalesce($8, extract(epoch FROM clock_timestamp())::double precision) + $7
FROM locked
WHERE mine.processor = locked.processor AND mine.generation = locked.generation
  AND mine.number = locked.number AND mine.count = locked.count
RETURNING mine.processor, mine.generation, mine.number, mine.count, mine.token, mine.owner,
          mine.lease_until, mine.fence

-- name: release
WITH locked AS (
    SELECT mine.processor, mine.generation, mine.number, mine.count
    FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::bigint[])
         AS held (processor, generation, number, count, owner, fence)
    JOIN view_segments AS mine USING (processor, generation, number, count, owner, fence)
    ORDER BY mine.processor, mine.generation, mine.number, mine.count
    FOR NO KEY UPDATE OF mine)
UPDATE view_segments AS mine
SET owner = '', lease_until = 0.0
FROM locked
WHERE mine.processor = locked.processor AND mine.generation = locked.generation
  AND mine.number = locked.number AND mine.count = locked.count

-- name: advance
-- One segment; several at once: `advance_several`.
UPDATE view_segments AS mine
SET token = $7, steps = mine.steps + 1
FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::bigint[],
            $8::bigint[])
     AS held (processor, generation, number, count, owner, fence, steps)
WHERE mine.processor = held.processor AND mine.generation = held.generation
  AND mine.number = held.number AND mine.count = held.count
  AND mine.owner = held.owner AND mine.fence = held.fence AND mine.owner <> ''
  AND mine.steps = coalesce(held.steps, mine.steps)
RETURNING mine.processor, mine.generation, mine.number, mine.count, mine.fence, mine.steps

-- name: advance_several
WITH locked AS (
    SELECT mine.processor, mine.generation, mine.number, mine.count
    FROM unnest($1::text[], $2::integer[], $3::integer[], $4::integer[], $5::text[], $6::bigint[],
                $8::bigint[])
         AS held (processor, generation, number, count, owner, fence, steps)
    JOIN view_segments AS mine USING (processor, generation, number, count, owner, fence)
    WHERE mine.owner <> '' AND mine.steps = coalesce(held.steps, mine.steps)
    ORDER BY mine.processor, mine.generation, mine.number, mine.count
    FOR NO KEY UPDATE OF mine)
UPDATE view_segments AS mine
SET token = $7, steps = mine.steps + 1
FROM locked
WHERE mine.processor = locked.processor AND mine.generation = locked.generation
  AND mine.number = locked.number AND mine.count = locked.count
RETURNING mine.processor, mine.generation, mine.number, mine.count, mine.fence, mine.steps

-- name: settle
-- The locks are there once whatever was going on with these segments has ended.
SELECT number, count, fence, steps
FROM view_segments
WHERE processor = $1 AND generation = $2
ORDER BY number
FOR UPDATE

-- name: reset
UPDATE view_segments
SET token = $3, owner = '', lease_until = 0.0, fence = fence + 1
WHERE processor = $1 AND generation = $2

-- name: drop
DELETE FROM view_segments
WHERE processor = $1 AND generation = $2

-- name: keep_fence
INSERT INTO view_dropped (processor, fence) VALUES ($1, $2)
ON CONFLICT (processor)
DO UPDATE SET fence = greatest(view_dropped.fence, excluded.fence)
