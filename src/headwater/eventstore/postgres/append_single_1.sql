-- What append_events does, for a batch of one event with one condition at most: most batches, when
-- callers are few.
CREATE FUNCTION append_single(
    writer_ text,
    batch_ bigint,
    now_ bigint, -- as append_events
    stream_ text,
    expected_ bigint, -- the version that its stream must be at, or NULL
    key_ text, -- the idempotency key, or NULL
    print_ text, -- its fingerprint
    type_ text,
    type_version_ integer,
    tags_ text,
    data_ bytea,
    metadata_ bytea,
    tag_ text[], -- its tags, each once; NULL when there are none
    after_ bigint, -- of its condition; NULL when there is none
    first_ text, -- the tags that an excluded event has: one of them, and ...
    others_ text[], -- ... the others; NULL when there are none
    kinds_ text[], -- the types that it has one of; NULL when it has any
    OUT head_ bigint, -- before the event
    OUT time_ bigint, -- recorded for it
    OUT version_ bigint, -- of the stream before it
    OUT code_ integer, -- 0 stored, else as append_events ...
    OUT detail_ bigint -- ... for 2
)
LANGUAGE plpgsql
AS $$
DECLARE
    few CONSTANT integer := 64;
    ahead CONSTANT bigint := 5000000; -- AHEAD_US_MAX
    clock bigint; -- microseconds UTC
    recorded bigint; -- the time of the last event
    stored_print text;
    seen integer; -- how many of the next events with the first tag, if few
    until bigint; -- the last of those
BEGIN
    PERFORM pg_advisory_xact_lock((1751474532::bigint << 32) | 'events'::regclass::oid::bigint);

    SELECT e.position, e.time INTO head_, recorded
    FROM events AS e ORDER BY e.position DESC LIMIT 1;
    head_ := coalesce(head_, 0);
    clock := floor(extract(epoch FROM clock_timestamp()) * 1000000);
    clock := least(coalesce(now_, clock), clock + ahead);
    time_ := CASE WHEN recorded <= clock + ahead THEN greatest(recorded, clock) ELSE clock END;

    SELECT e.version INTO version_
    FROM events AS e WHERE e.stream = stream_ ORDER BY e.version DESC LIMIT 1;
    version_ := coalesce(version_, 0);
    code_ := 0;

    IF key_ IS NOT NULL THEN
        SELECT k.fingerprint INTO stored_print FROM event_keys AS k WHERE k.key = key_;
        IF FOUND THEN
            code_ := CASE WHEN stored_print = print_ THEN 3 ELSE 4 END;
            RETURN;
        END IF;
    END IF;
    IF expected_ <> version_ THEN
        code_ := 1;
        RETURN;
    END IF;
    IF after_ < head_ THEN
        IF first_ IS NOT NULL THEN
            SELECT
                count(*), max(t.position),
                min(t.position) FILTER (
                    WHERE (
                        SELECT count(*) FROM event_tags AS x
                        WHERE x.tag = ANY (others_) AND x.position = t.position
                    ) = coalesce(cardinality(others_), 0)
                    AND (
                        kinds_ IS NULL
                        OR (SELECT e.type FROM events AS e WHERE e.position = t.position)
                            = ANY (kinds_)
                    )
                )
            INTO seen, until, detail_
            FROM (
                SELECT t.position FROM event_tags AS t
                WHERE t.tag = first_ AND t.position > after_
                ORDER BY t.position LIMIT few
            ) AS t;
            IF detail_ IS NULL AND seen = few THEN
                SELECT f.position INTO detail_
                FROM matching_positions(
                    first_ || others_, kinds_, until, head_, 1, false
                ) AS f (position)
                LIMIT 1;
            END IF;
        ELSIF kinds_ IS NOT NULL THEN
            SELECT m.position INTO detail_
            FROM unnest(kinds_) AS k (type)
            CROSS JOIN LATERAL (
                SELECT e.position FROM events AS e
                WHERE e.type = k.type AND e.position > after_
                ORDER BY e.position LIMIT 1
            ) AS m
            LIMIT 1;
        ELSE
            detail_ := head_;
        END IF;
        IF detail_ IS NOT NULL THEN
            code_ := 2;
            RETURN;
        END IF;
    END IF;

    UPDATE event_writers AS w
    SET batch = batch_, used = now(), head = head_, time = time_,
        failed = NULL, codes = NULL, details = NULL, actuals = NULL
    WHERE w.writer = writer_ AND w.batch < batch_;
    IF NOT FOUND THEN
        -- Whoever sent the batch has given it up, or was forgotten.
        RAISE EXCEPTION 'batch % of writer % is not expected', batch_, writer_
        USING ERRCODE = 'HW001';
    END IF;

    INSERT INTO events (
        position, stream, version, type, type_version, time, tags, data, metadata
    ) VALUES (
        head_ + 1, stream_, version_ + 1, type_, type_version_, time_, tags_, data_, metadata_
    );
    IF time_ < recorded THEN
        INSERT INTO event_runs (position, time) VALUES (head_ + 1, time_);
    END IF;
    IF tag_ IS NOT NULL THEN
        INSERT INTO event_tags (tag, position) SELECT t.tag, head_ + 1 FROM unnest(tag_) AS t (tag);
    END IF;
    IF key_ IS NOT NULL THEN
        INSERT INTO event_keys (key, fingerprint, first, last, time, streams, versions)
        VALUES (
            key_, print_, head_ + 1, head_ + 1, time_, ARRAY[stream_], ARRAY[version_ + 1]
        );
    END IF;
END
$$;
