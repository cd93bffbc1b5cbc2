-- Version 2: time that was recorded by a clock that was wrong is not followed, and keys of
-- idempotency can be found by their age.

-- Where recorded time fell: each row begins a run of events within which it does not.
CREATE TABLE event_runs (
    position INTEGER PRIMARY KEY,
    time INTEGER NOT NULL
) STRICT;

CREATE INDEX event_keys_by_last ON event_keys (last);
