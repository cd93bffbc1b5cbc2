-- Appends those events that are not stored yet, in their order, and returns how many.
--
-- One transaction at a time appends to a partition, until its commit: so offsets become visible
-- in their order, and a reader who has seen one has seen all before it. The locks are taken in
-- order of the partitions, so that nobody waits in a circle. Each statement of the function sees
-- what was committed before it began, which is after the locks were taken: that needs READ
-- COMMITTED, which is checked. The settings keep its plan to look-ups, also when it was made while
-- the table was empty.
CREATE FUNCTION bus_append(
    partitions integer[], documents text[], origins integer[], positions bigint[]
) RETURNS integer LANGUAGE plpgsql VOLATILE
SET search_path FROM CURRENT
SET enable_seqscan = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    chosen  integer;
    stored  integer;
    space   integer := hashtext('headwater bus ' || current_schema());
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'bus_append needs a transaction that is READ COMMITTED';
    END IF;
    FOR chosen IN SELECT DISTINCT given FROM unnest(partitions) AS given ORDER BY given LOOP
        PERFORM pg_advisory_xact_lock(space, chosen);
    END LOOP;
    WITH fresh AS (
        SELECT given.*, row_number() OVER (PARTITION BY given.partition ORDER BY given.number) AS n
        FROM unnest(partitions, documents, origins, positions) WITH ORDINALITY
             AS given (partition, document, origin, position, number)
        LEFT JOIN LATERAL ( -- with its LIMIT a look-up for each event, whatever the statistics say
            SELECT true AS found FROM bus_events AS old
            WHERE old.origin = given.origin AND old.position = given.position LIMIT 1
        ) AS old ON true
        WHERE old.found IS NULL
    ), ends AS MATERIALIZED (
        SELECT wanted.partition, (
            SELECT coalesce(max(old.partition_offset), -1) FROM bus_events AS old
            WHERE old.partition = wanted.partition
        ) AS partition_offset
        FROM (SELECT DISTINCT fresh.partition FROM fresh) AS wanted
    )
    INSERT INTO bus_events (partition, partition_offset, document, origin, position)
    SELECT fresh.partition, ends.partition_offset + fresh.n,
           fresh.document, fresh.origin, fresh.position
    FROM fresh JOIN ends ON ends.partition = fresh.partition
    ORDER BY fresh.number;
    GET DIAGNOSTICS stored = ROW_COUNT;
    RETURN stored;
END
$$;
