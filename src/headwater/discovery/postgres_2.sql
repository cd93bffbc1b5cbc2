-- Version 2: an address has one instance. Who registers at it removes who was there before,
-- whatever their services: only one process can listen there.

-- Not read as JSON, which may hold what PostgreSQL takes for none: \u0000. Before these two fields
-- come only names without quotes.
CREATE FUNCTION registry_address(content text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT substring(content FROM '"host":"[^"]*","port":[0-9]+') $$;

CREATE INDEX registry_addresses ON registry_instances (registry_address(content))
    WHERE content IS NOT NULL;

ALTER FUNCTION registry_write(text[], bigint[], text[], text[], text[], boolean[], boolean[],
                              boolean[], boolean[]) RENAME TO registry_store;

-- As `registry_store`. Which registration is the later one is decided by the lock, not by a clock:
-- that of the entry that is stored later. A change of what is registered there is none.
CREATE FUNCTION registry_write(
    ids text[], expecteds bigint[], holders text[], contents text[],
    overrides text[], expireds boolean[], doubteds boolean[],
    registering boolean[], overriding boolean[]
) RETURNS TABLE (stored_id text, stored_revision bigint)
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
    base      bigint;
    taking    text[];
    addresses text[];
BEGIN
    PERFORM 1 FROM registry_state FOR UPDATE;
    SELECT array_agg(given.id), array_agg(given.address)
    INTO taking, addresses
    FROM (
        SELECT wanted.id, registry_address(wanted.content) AS address
        FROM unnest(ids, expecteds, contents, registering)
             AS wanted (id, expected, content, registering)
        WHERE wanted.registering AND wanted.expected IS NULL AND wanted.content IS NOT NULL
    ) AS given
    LEFT JOIN registry_instances AS old ON old.id = given.id AND old.content IS NOT NULL
    WHERE registry_address(old.content) IS DISTINCT FROM given.address;
    RETURN QUERY
    SELECT * FROM registry_store(ids, expecteds, holders, contents, overrides, expireds, doubteds,
                                 registering, overriding);
    IF taking IS NULL THEN
        RETURN;
    END IF;
    SELECT revision INTO STRICT base FROM registry_state;
    WITH gone AS (
        SELECT old.id, base + row_number() OVER (ORDER BY old.id) AS next
        FROM registry_instances AS old
        JOIN unnest(taking, addresses) AS taken (id, address)
          ON registry_address(old.content) = taken.address AND old.id <> taken.id
        WHERE old.content IS NOT NULL
    )
    UPDATE registry_instances AS target SET
        revision = gone.next, content = NULL, override = NULL, expired = false, doubted = false,
        changed = clock_timestamp()
    FROM gone WHERE target.id = gone.id;
    UPDATE registry_state AS state SET
        revision = greatest(state.revision, (SELECT max(i.revision) FROM registry_instances AS i));
END
$$;
