-- The log. The row id is the position; SQLite never reuses it, because nothing is ever deleted.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    type TEXT NOT NULL,
    type_version INTEGER NOT NULL,
    time INTEGER NOT NULL, -- microseconds UTC, never falling within a run
    tags TEXT NOT NULL, -- a JSON array; empty text for none
    data BLOB NOT NULL,
    metadata BLOB NOT NULL
) STRICT;

-- Versions are dense per stream: the backstop of all checks.
CREATE UNIQUE INDEX events_by_stream ON events (stream, version);

-- Where recorded time fell: each row begins a run of events within which it does not.
CREATE TABLE event_runs (
    position INTEGER PRIMARY KEY,
    time INTEGER NOT NULL
) STRICT;

-- For filters without tags: the row id (position) follows the type in the index.
CREATE INDEX events_by_type ON events (type);

-- For filters with tags, which select by tag first.
CREATE TABLE event_tags (
    tag TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
) STRICT, WITHOUT ROWID;

-- The outcome of each append with an idempotency key; streams and versions are JSON arrays.
CREATE TABLE event_keys (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    time INTEGER NOT NULL,
    streams TEXT NOT NULL,
    versions TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- By their age, to be forgotten.
CREATE INDEX event_keys_by_last ON event_keys (last);

CREATE TABLE event_snapshots (
    stream TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE event_store (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
