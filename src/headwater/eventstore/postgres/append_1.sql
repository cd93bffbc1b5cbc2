-- One group commit: checks each append, in order, and stores those that pass.
--
-- Events get the time of the server's clock, or that of the last event if the clock is a little
-- behind it. An event that is further ahead was stamped by a clock that was wrong: it is not
-- followed, and a new run begins.
--
-- Whoever holds the lock sees everything that was committed before, because each statement of a
-- volatile function takes a snapshot of its own (READ COMMITTED) after the lock. The lock is
-- released after the commit has become visible, so positions become visible in order.
--
-- Appends have writes (one stream each), writes have events; all are numbered from 1 over the
-- whole batch. Arrays of things that no append of the batch has are NULL.
--
-- Its statements are planned once: who calls it has set plan_cache_mode, because a SET of the
-- function itself takes 15 microseconds each time.
CREATE FUNCTION append_events(
    writer_ text,
    batch_ bigint,
    now_ bigint, -- instead of the server's clock, which it is never ahead of by much; or NULL
    streams_ text[], -- all streams, each once
    writes_ integer[], -- by append: how many writes
    pipelines_ integer[], -- by append: which pipeline, or NULL
    everything_ bigint[], -- by append: after which there must be no event, or NULL
    keys_ text[], -- all idempotency keys, each once
    key_of_ integer[], -- by append: which key, or NULL
    prints_ text[], -- by append: the key's fingerprint
    tagged_ jsonb, -- items of conditions: append, after, first (tag), others (tags), types
    typed_ jsonb, -- items of conditions without tags: append, after, types
    rivals_ integer[], -- events of the batch that the condition of a later append excludes ...
    rival_to_ integer[], -- ... and that append, in ascending order
    rival_after_ bigint[], -- ... and its position
    stream_of_ integer[], -- by write: which stream
    expected_ bigint[], -- by write: the version that its stream must be at, or NULL
    counts_ integer[], -- by write: how many events
    write_of_ integer[], -- by event: which write
    types_ text[], -- by event
    type_versions_ integer[],
    tags_ text[],
    data_ bytea[],
    metadata_ bytea[],
    tag_ text[], -- all tags of all events ...
    tag_of_ integer[], -- ... and the event
    OUT head_ bigint, -- before the batch
    OUT time_ bigint, -- recorded for its events
    OUT versions_ bigint[], -- by stream, before the batch
    OUT failed_ integer[], -- appends that were not stored; NULL when all were
    OUT codes_ integer[], -- why: 1 conflict, 2 condition, 3 duplicate, 4 key reused, 5 pipeline
    OUT details_ bigint[], -- 1: the write; 2: the position; 5: the append that broke the pipeline
    OUT actuals_ bigint[] -- 1: the version
)
LANGUAGE plpgsql
AS $$
DECLARE
    few CONSTANT integer := 64;
    ahead CONSTANT bigint := 5000000; -- AHEAD_US_MAX
    clock bigint; -- microseconds UTC
    recorded bigint; -- the time of the last event
    present bigint[]; -- by stream: its version so far
    shifts bigint[]; -- by write: position of an event less its number; NULL when not stored
    version_shifts bigint[]; -- by write: version of an event less its number
    afters bigint[]; -- by write of an append with a key: version of the stream after it
    keyed integer[]; -- appends with a key that are stored; NULL when there are none ...
    firsts bigint[]; -- ... and their first positions
    lasts bigint[];
    ends integer[]; -- ... and their last writes
    stored_prints text[]; -- by key: the fingerprint it is stored with; NULL when it is free
    broken integer[]; -- by pipeline: the append that broke it
    matched bigint[]; -- by append: the position of a stored event that its condition excludes
    position bigint;
    first bigint;
    event_number bigint := 0;
    write_number integer := 0;
    last_write integer;
    rival integer := 1;
    rival_position bigint;
    code integer;
    detail bigint;
    actual bigint;
    hit record;
BEGIN
    PERFORM pg_advisory_xact_lock((1751474532::bigint << 32) | 'events'::regclass::oid::bigint);

    SELECT e.position, e.time INTO head_, recorded
    FROM events AS e ORDER BY e.position DESC LIMIT 1;
    head_ := coalesce(head_, 0);
    clock := floor(extract(epoch FROM clock_timestamp()) * 1000000);
    clock := least(coalesce(now_, clock), clock + ahead);
    time_ := CASE WHEN recorded <= clock + ahead THEN greatest(recorded, clock) ELSE clock END;
    position := head_;

    SELECT array_agg(
        coalesce((
            SELECT e.version FROM events AS e
            WHERE e.stream = s.stream
            ORDER BY e.version DESC LIMIT 1
        ), 0)
        ORDER BY s.number
    ) INTO versions_
    FROM unnest(streams_) WITH ORDINALITY AS s (stream, number);
    present := versions_;

    IF keys_ IS NOT NULL THEN
        SELECT array_agg(
            (SELECT k.fingerprint FROM event_keys AS k WHERE k.key = n.key)
            ORDER BY n.number
        ) INTO stored_prints
        FROM unnest(keys_) WITH ORDINALITY AS n (key, number);
    END IF;

    IF tagged_ IS NOT NULL THEN
        FOR hit IN
            SELECT i.append, coalesce(near.position, far.position) AS position
            FROM jsonb_to_recordset(tagged_)
                AS i (append integer, after bigint, first text, others text[], types text[])
            -- Most often the first tag has few events since, and that is all to be looked at.
            CROSS JOIN LATERAL (
                SELECT
                    count(*) AS seen,
                    max(t.position) AS until,
                    -- Values, not EXISTS: that could be answered by going through a table once.
                    min(t.position) FILTER (
                        WHERE (
                            SELECT count(*) FROM event_tags AS x
                            WHERE x.tag = ANY (i.others) AND x.position = t.position
                        ) = coalesce(cardinality(i.others), 0)
                        AND (
                            i.types IS NULL
                            OR (SELECT e.type FROM events AS e WHERE e.position = t.position)
                                = ANY (i.types)
                        )
                    ) AS position
                FROM (
                    SELECT t.position FROM event_tags AS t
                    WHERE t.tag = i.first AND t.position > i.after
                    ORDER BY t.position LIMIT few
                ) AS t
            ) AS near
            LEFT JOIN LATERAL (
                SELECT f.position
                FROM matching_positions(
                    i.first || i.others, i.types, near.until, head_, 1, false
                ) AS f (position)
                WHERE near.position IS NULL AND near.seen = few
                LIMIT 1
            ) AS far ON true
            WHERE coalesce(near.position, far.position) IS NOT NULL
        LOOP
            matched[hit.append] := hit.position;
        END LOOP;
    END IF;

    IF typed_ IS NOT NULL THEN
        FOR hit IN
            SELECT i.append, m.position
            FROM jsonb_to_recordset(typed_) AS i (append integer, after bigint, types text[])
            CROSS JOIN LATERAL unnest(i.types) AS k (type)
            CROSS JOIN LATERAL (
                SELECT e.position FROM events AS e
                WHERE e.type = k.type AND e.position > i.after
                ORDER BY e.position LIMIT 1
            ) AS m
        LOOP
            matched[hit.append] := hit.position;
        END LOOP;
    END IF;

    FOR append IN 1 .. cardinality(writes_) LOOP
        code := 0;
        last_write := write_number + writes_[append];

        IF pipelines_[append] IS NOT NULL AND broken[pipelines_[append]] IS NOT NULL THEN
            code := 5;
            detail := broken[pipelines_[append]];
        ELSIF key_of_[append] IS NOT NULL AND stored_prints[key_of_[append]] IS NOT NULL THEN
            code := CASE WHEN stored_prints[key_of_[append]] = prints_[append] THEN 3 ELSE 4 END;
        ELSE
            FOR write IN write_number + 1 .. last_write LOOP
                IF expected_[write] <> present[stream_of_[write]] THEN
                    code := 1;
                    detail := write;
                    actual := present[stream_of_[write]];
                    EXIT;
                END IF;
            END LOOP;
            IF code = 0 AND matched[append] IS NOT NULL THEN
                code := 2;
                detail := matched[append];
            ELSIF code = 0 AND position > everything_[append] THEN
                code := 2;
                detail := position;
            END IF;
        END IF;

        WHILE rival_to_[rival] = append LOOP
            rival_position := shifts[write_of_[rivals_[rival]]] + rivals_[rival]; -- or NULL
            IF code = 0 AND rival_position > rival_after_[rival] THEN
                code := 2;
                detail := rival_position;
            END IF;
            rival := rival + 1;
        END LOOP;

        IF code = 0 THEN
            first := position + 1;
            FOR write IN write_number + 1 .. last_write LOOP
                shifts[write] := position - event_number;
                version_shifts[write] := present[stream_of_[write]] - event_number;
                present[stream_of_[write]] := present[stream_of_[write]] + counts_[write];
                position := position + counts_[write];
                event_number := event_number + counts_[write];
            END LOOP;
            IF key_of_[append] IS NOT NULL THEN
                stored_prints[key_of_[append]] := prints_[append];
                keyed := keyed || append;
                firsts := firsts || first;
                lasts := lasts || position;
                ends := ends || last_write;
                FOR write IN write_number + 1 .. last_write LOOP
                    afters[write] := present[stream_of_[write]];
                END LOOP;
            END IF;
        ELSE
            failed_ := failed_ || append;
            codes_ := codes_ || code;
            details_ := details_ || coalesce(detail, 0);
            actuals_ := actuals_ || coalesce(actual, 0);
            IF pipelines_[append] IS NOT NULL THEN
                broken[pipelines_[append]] := coalesce(broken[pipelines_[append]], append);
            END IF;
            FOR write IN write_number + 1 .. last_write LOOP
                event_number := event_number + counts_[write];
            END LOOP;
        END IF;
        write_number := last_write;
    END LOOP;

    IF position = head_ AND keyed IS NULL THEN
        RETURN; -- nothing to store, so nothing to wait for
    END IF;

    UPDATE event_writers AS w
    SET batch = batch_, used = now(), head = head_, time = time_,
        failed = failed_, codes = codes_, details = details_, actuals = actuals_
    WHERE w.writer = writer_ AND w.batch < batch_;
    IF NOT FOUND THEN
        -- Whoever sent the batch has given it up, or was forgotten.
        RAISE EXCEPTION 'batch % of writer % is not expected', batch_, writer_
        USING ERRCODE = 'HW001';
    END IF;

    INSERT INTO events (
        position, stream, version, type, type_version, time, tags, data, metadata
    )
    SELECT
        shifts[e.write] + e.number, streams_[stream_of_[e.write]],
        version_shifts[e.write] + e.number, e.type, e.type_version, time_, e.tags, e.data,
        e.metadata
    FROM unnest(write_of_, types_, type_versions_, tags_, data_, metadata_)
        WITH ORDINALITY AS e (write, type, type_version, tags, data, metadata, number)
    WHERE shifts[e.write] IS NOT NULL;

    IF position > head_ AND time_ < recorded THEN
        INSERT INTO event_runs (position, time) VALUES (head_ + 1, time_);
    END IF;

    IF tag_ IS NOT NULL THEN
        INSERT INTO event_tags (tag, position)
        SELECT t.tag, shifts[write_of_[t.event]] + t.event
        FROM unnest(tag_, tag_of_) AS t (tag, event)
        WHERE shifts[write_of_[t.event]] IS NOT NULL;
    END IF;

    IF keyed IS NOT NULL THEN
        INSERT INTO event_keys (key, fingerprint, first, last, time, streams, versions)
        SELECT
            keys_[key_of_[k.append]], prints_[k.append], k.first, k.last, time_,
            ARRAY(
                SELECT streams_[stream_of_[w]]
                FROM generate_series(k.until - writes_[k.append] + 1, k.until) AS w
                ORDER BY w
            ),
            ARRAY(
                SELECT afters[w]
                FROM generate_series(k.until - writes_[k.append] + 1, k.until) AS w
                ORDER BY w
            )
        FROM unnest(keyed, firsts, lasts, ends) AS k (append, first, last, until);
    END IF;
END
$$;
