-- The positions of a range whose events have all of some tags and one of some types.
--
-- They come from indexes alone, at a cost that follows the rarest of the tags and the types: the
-- range is gone through in windows, each as far as the rarest from there on has a number of events,
-- and in a window only those are looked at.
CREATE FUNCTION matching_positions(
    tags_ text[], -- at least one, each once
    types_ text[], -- each once; NULL for all types
    low_ bigint, -- exclusive
    high_ bigint, -- inclusive
    limit_ bigint, -- at most so many positions
    backwards_ boolean -- from the end of the range; else from its beginning
)
RETURNS SETOF bigint
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    least_size CONSTANT bigint := 32;
    greatest_size CONSTANT bigint := 4096;
    size bigint := least_size; -- of a window: events of the rarest, of all types together
    rarest text; -- a tag; NULL when it is the types
    above bigint; -- the window: exclusive ...
    until bigint; -- ... and inclusive
    found_now bigint;
BEGIN
    WHILE low_ < high_ AND limit_ > 0 LOOP
        IF backwards_ THEN
            SELECT w.tag, w.above INTO rarest, above
            FROM (
                SELECT k.tag, coalesce((
                    SELECT t.position - 1 FROM event_tags AS t
                    WHERE t.tag = k.tag AND t.position > low_ AND t.position <= high_
                    ORDER BY t.position DESC OFFSET size - 1 LIMIT 1
                ), low_) AS above
                FROM unnest(tags_) AS k (tag)
                UNION ALL
                SELECT NULL, max(coalesce((
                    SELECT e.position - 1 FROM events AS e
                    WHERE e.type = k.type AND e.position > low_ AND e.position <= high_
                    ORDER BY e.position DESC OFFSET (size - 1) / cardinality(types_) LIMIT 1
                ), low_))
                FROM unnest(types_) AS k (type)
                HAVING count(*) > 0
            ) AS w
            ORDER BY w.above, w.tag LIMIT 1;
            until := high_;
            high_ := above;
        ELSE
            SELECT w.tag, w.until INTO rarest, until
            FROM (
                SELECT k.tag, coalesce((
                    SELECT t.position FROM event_tags AS t
                    WHERE t.tag = k.tag AND t.position > low_ AND t.position <= high_
                    ORDER BY t.position OFFSET size - 1 LIMIT 1
                ), high_) AS until
                FROM unnest(tags_) AS k (tag)
                UNION ALL
                SELECT NULL, min(coalesce((
                    SELECT e.position FROM events AS e
                    WHERE e.type = k.type AND e.position > low_ AND e.position <= high_
                    ORDER BY e.position OFFSET (size - 1) / cardinality(types_) LIMIT 1
                ), high_))
                FROM unnest(types_) AS k (type)
                HAVING count(*) > 0
            ) AS w
            ORDER BY w.until DESC, w.tag LIMIT 1;
            above := low_;
            low_ := until;
        END IF;

        RETURN QUERY
        SELECT m.position
        FROM (
            SELECT t.position FROM event_tags AS t
            WHERE t.tag = rarest AND t.position > above AND t.position <= until
            UNION ALL
            SELECT e.position
            FROM unnest(types_) AS k (type)
            CROSS JOIN LATERAL (
                SELECT e.position FROM events AS e
                WHERE e.type = k.type AND e.position > above AND e.position <= until
                OFFSET 0 -- by the index on types, for each of them
            ) AS e
            WHERE rarest IS NULL
        ) AS m
        WHERE (
            (rarest IS NOT NULL AND cardinality(tags_) = 1)
            OR (
                SELECT count(*) FROM event_tags AS x
                WHERE x.tag = ANY (tags_) AND x.position = m.position
            ) = cardinality(tags_)
        )
        AND (
            rarest IS NULL OR types_ IS NULL
            OR (SELECT e.type FROM events AS e WHERE e.position = m.position) = ANY (types_)
        )
        ORDER BY CASE WHEN backwards_ THEN -m.position ELSE m.position END
        LIMIT limit_;

        GET DIAGNOSTICS found_now = ROW_COUNT;
        limit_ := limit_ - found_now;
        -- As many as the rest needs if they match as often as these did, grown step by step.
        size := least(
            size * 8,
            size * least(limit_, greatest_size) / greatest(found_now, 1) + 1,
            greatest_size
        );
        size := greatest(size, least_size);
    END LOOP;
END
$$;
