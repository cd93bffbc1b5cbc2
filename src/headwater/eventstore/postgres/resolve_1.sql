-- What became of a batch whose connection broke; afterwards it can no longer be stored.
--
-- Under the lock of append_events: a transaction that was about to commit the batch either has
-- done so, or comes later and finds that its number is not expected any more.
CREATE FUNCTION resolve_batch(
    writer_ text,
    batch_ bigint,
    streams_ text[],
    OUT head_ bigint, -- as append_events; NULL when the batch was not stored
    OUT time_ bigint,
    OUT versions_ bigint[],
    OUT failed_ integer[],
    OUT codes_ integer[],
    OUT details_ bigint[],
    OUT actuals_ bigint[]
)
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock((1751474532::bigint << 32) | 'events'::regclass::oid::bigint);
    SELECT w.head, w.time, w.failed, w.codes, w.details, w.actuals
    INTO head_, time_, failed_, codes_, details_, actuals_
    FROM event_writers AS w WHERE w.writer = writer_ AND w.batch = batch_;
    IF NOT FOUND THEN
        UPDATE event_writers AS w SET batch = batch_ + 1
        WHERE w.writer = writer_ AND w.batch < batch_;
        RETURN;
    END IF;
    SELECT array_agg(
        coalesce((
            SELECT e.version FROM events AS e
            WHERE e.stream = s.stream AND e.position <= head_
            ORDER BY e.version DESC LIMIT 1
        ), 0)
        ORDER BY s.number
    ) INTO versions_
    FROM unnest(streams_) WITH ORDINALITY AS s (stream, number);
END
$$;
