-- The tables of the registry. An address has one instance: who registers at it removes who was
-- there before, whatever their services, as only one process can listen there.

-- Which store this is, and its latest revision. Its row is also the lock under which all changes
-- are made: so revisions are dense, and become visible in their order.
CREATE TABLE registry_state (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    store      uuid    NOT NULL DEFAULT gen_random_uuid(),
    revision   bigint  NOT NULL DEFAULT 0,
    forgotten  bigint  NOT NULL DEFAULT 0 -- no removal up to this revision is kept
);
INSERT INTO registry_state DEFAULT VALUES;

-- A renewal changes nothing here. Removed instances stay for ten minutes, without content.
CREATE TABLE registry_instances (
    id        text        COLLATE "C" PRIMARY KEY,
    revision  bigint      NOT NULL UNIQUE,
    holder    text        NOT NULL, -- the server that decides whether it has expired
    content   text,                 -- JSON; null: removed
    override  text,
    expired   boolean     NOT NULL,
    doubted   boolean     NOT NULL,
    changed   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX registry_removals ON registry_instances (changed) WHERE content IS NULL;

-- Not read as JSON, which may hold what PostgreSQL takes for none: \u0000. Before these two fields
-- come only names without quotes.
CREATE FUNCTION registry_address(content text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT substring(content FROM '"host":"[^"]*","port":[0-9]+') $$;

CREATE INDEX registry_addresses ON registry_instances (registry_address(content))
    WHERE content IS NOT NULL;

-- The registries that are alive: each counts on. Not logged, since nobody needs it after a crash.
CREATE UNLOGGED TABLE registry_servers (
    server  text        PRIMARY KEY,
    beats   bigint      NOT NULL,
    seen    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Stores those entries that hold, and returns their revisions.
--
-- An entry with an expected revision is stored while the record is at that revision. One without
-- is stored unless it would change nothing. Each statement sees what was committed before it began,
-- which is after the lock was taken: that needs READ COMMITTED, which is checked.
CREATE FUNCTION registry_store(
    ids text[], expecteds bigint[], holders text[], contents text[],
    overrides text[], expireds boolean[], doubteds boolean[],
    registering boolean[], overriding boolean[]
) RETURNS TABLE (stored_id text, stored_revision bigint)
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
DECLARE
    base  bigint;
    past  bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'registry_store needs a transaction that is READ COMMITTED';
    END IF;
    SELECT revision INTO STRICT base FROM registry_state FOR UPDATE;
    RETURN QUERY
    WITH given AS (
        SELECT wanted.id, wanted.expected, chosen.*,
               CASE WHEN chosen.content IS NULL THEN NULL
                    WHEN wanted.overriding OR old.content IS NULL THEN wanted.override
                    ELSE old.override END AS override,
               coalesce(old.revision, 0) AS present,
               old.content AS old_content, old.override AS old_override,
               old.expired AS old_expired, old.doubted AS old_doubted
        FROM unnest(ids, expecteds, holders, contents, overrides, expireds, doubteds,
                    registering, overriding)
             AS wanted (id, expected, holder, content, override, expired, doubted,
                        registering, overriding)
        LEFT JOIN registry_instances AS old ON old.id = wanted.id
        CROSS JOIN LATERAL (
            SELECT wanted.holder, wanted.content, wanted.expired, wanted.doubted
            WHERE wanted.registering OR old.id IS NULL
            UNION ALL
            SELECT old.holder, old.content, old.expired, old.doubted
            WHERE NOT wanted.registering AND old.id IS NOT NULL
        ) AS chosen
    ), fresh AS (
        SELECT given.*, base + row_number() OVER (ORDER BY given.id) AS next
        FROM given
        WHERE CASE WHEN given.expected IS NOT NULL THEN given.expected = given.present
                   WHEN given.content IS NULL THEN given.old_content IS NOT NULL
                   ELSE (given.content, given.override, given.expired, given.doubted)
                        IS DISTINCT FROM (given.old_content, given.old_override,
                                          given.old_expired, given.old_doubted)
              END
    )
    INSERT INTO registry_instances AS target
        (id, revision, holder, content, override, expired, doubted)
    SELECT fresh.id, fresh.next, fresh.holder, fresh.content, fresh.override, fresh.expired,
           fresh.doubted
    FROM fresh
    ON CONFLICT (id) DO UPDATE SET
        revision = excluded.revision, holder = excluded.holder, content = excluded.content,
        override = excluded.override, expired = excluded.expired, doubted = excluded.doubted,
        changed = clock_timestamp()
    RETURNING target.id, target.revision;
    WITH gone AS (
        DELETE FROM registry_instances AS old
        WHERE old.content IS NULL AND old.changed < clock_timestamp() - interval '10 minutes'
        RETURNING old.revision
    )
    SELECT max(gone.revision) INTO past FROM gone;
    UPDATE registry_state AS state SET
        revision = greatest(state.revision, (SELECT max(i.revision) FROM registry_instances AS i)),
        forgotten = greatest(state.forgotten, past);
END
$$;

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
