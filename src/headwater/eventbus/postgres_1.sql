-- Version 1 of the tables of the event bus.

-- The number of partitions, fixed when the bus is made.
CREATE TABLE bus_settings (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions  integer NOT NULL
);

-- The event stores that events come from.
CREATE TABLE bus_origins (
    origin  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source  text NOT NULL COLLATE "C",
    epoch   text NOT NULL COLLATE "C",
    UNIQUE (source, epoch)
);

-- Any program may read the documents. It appends its own with the function below, without origin
-- and position: SELECT <schema>.bus_append('{2}', '{"{...}"}', '{null}', '{null}').
CREATE TABLE bus_events (
    partition         integer NOT NULL,
    partition_offset  bigint  NOT NULL, -- dense from 0
    document          text    NOT NULL, -- CloudEvents 1.0 JSON
    origin            integer REFERENCES bus_origins (origin),
    position          bigint,
    PRIMARY KEY (partition, partition_offset)
);

-- An event is stored once, however often it is published.
CREATE UNIQUE INDEX bus_events_by_position ON bus_events (origin, position)
WHERE origin IS NOT NULL;

-- Appends those events that are not stored yet, in their order, and returns how many.
--
-- One transaction at a time appends to a partition, until its commit: so offsets become visible
-- in their order, and a reader who has seen one has seen all before it. The locks are taken in
-- order of the partitions, so that nobody waits in a circle. Each statement of the function sees
-- what was committed before it began, which is after the locks were taken: that needs READ
-- COMMITTED, which is checked.
CREATE FUNCTION bus_append(
    partitions integer[], documents text[], origins integer[], positions bigint[]
) RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
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
        WHERE given.origin IS NULL OR NOT EXISTS (
            SELECT FROM bus_events AS old
            WHERE old.origin = given.origin AND old.position = given.position
        )
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
