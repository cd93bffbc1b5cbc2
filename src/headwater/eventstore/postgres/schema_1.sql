-- The log. Positions are given by append_events, dense and in the order of the commits.
CREATE TABLE events (
    position bigint PRIMARY KEY,
    version bigint NOT NULL,
    time bigint NOT NULL, -- microseconds UTC, never falling within a run
    type_version integer NOT NULL,
    stream text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    tags text NOT NULL, -- a JSON array; empty text for none
    data bytea NOT NULL,
    metadata bytea NOT NULL
);

-- Versions are dense per stream: the backstop of all checks.
CREATE UNIQUE INDEX events_by_stream ON events (stream, version);

-- Where recorded time fell: each row begins a run of events within which it does not.
CREATE TABLE event_runs (position bigint PRIMARY KEY, time bigint NOT NULL);

-- For filters without tags.
CREATE INDEX events_by_type ON events (type, position);

-- For filters with tags, which select by tag first.
CREATE TABLE event_tags (
    tag text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tag, position)
);

-- The outcome of each append with an idempotency key.
CREATE TABLE event_keys (
    key text COLLATE "C" PRIMARY KEY,
    fingerprint text NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL,
    time bigint NOT NULL,
    streams text[] NOT NULL,
    versions bigint[] NOT NULL
);

-- By their age, to be forgotten.
CREATE INDEX event_keys_by_last ON event_keys (last);

-- The last batch of each process that appends, so that one whose connection broke during the
-- commit finds out what became of it.
CREATE TABLE event_writers (
    writer text PRIMARY KEY,
    batch bigint NOT NULL,
    used timestamptz NOT NULL DEFAULT now(),
    head bigint NOT NULL DEFAULT 0, -- before the batch
    time bigint NOT NULL DEFAULT 0,
    failed integer[],
    codes integer[],
    details bigint[],
    actuals bigint[]
) WITH (fillfactor = 50);

CREATE TABLE event_snapshots (
    stream text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL,
    fingerprint text NOT NULL,
    data bytea NOT NULL
);

CREATE TABLE event_store (name text PRIMARY KEY, value text NOT NULL);
