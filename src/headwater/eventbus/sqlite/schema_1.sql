-- The number of partitions, fixed when the file is made.
CREATE TABLE bus_settings (
    partitions  INTEGER NOT NULL
);

-- The event stores that events come from.
CREATE TABLE bus_origins (
    origin  INTEGER PRIMARY KEY,
    source  TEXT    NOT NULL,
    epoch   TEXT    NOT NULL,
    UNIQUE (source, epoch)
);

-- Any program may read the documents, and append its own with the next offset of a partition and
-- without origin and position.
CREATE TABLE bus_events (
    partition         INTEGER NOT NULL,
    partition_offset  INTEGER NOT NULL, -- dense from 0
    document          TEXT    NOT NULL, -- CloudEvents 1.0 JSON
    origin            INTEGER REFERENCES bus_origins (origin),
    position          INTEGER,
    PRIMARY KEY (partition, partition_offset)
) WITHOUT ROWID;

-- An event is stored once, however often it is published.
CREATE UNIQUE INDEX bus_events_by_position ON bus_events (origin, position)
WHERE origin IS NOT NULL;

-- Which types of events each service publishes.
CREATE TABLE bus_types (
    source    TEXT NOT NULL,
    name      TEXT NOT NULL,
    document  TEXT NOT NULL, -- JSON
    PRIMARY KEY (source, name)
) WITHOUT ROWID;

-- Up to where a partition went at some times, and how many bytes came since the time before.
CREATE TABLE bus_growth (
    partition         INTEGER NOT NULL,
    partition_offset  INTEGER NOT NULL,
    at                REAL    NOT NULL, -- seconds since 1970 UTC
    bytes             INTEGER NOT NULL,
    PRIMARY KEY (partition, partition_offset)
) WITHOUT ROWID;

-- How far who reads has come for good.
CREATE TABLE bus_readers (
    reader            TEXT    NOT NULL,
    partition         INTEGER NOT NULL,
    partition_offset  INTEGER NOT NULL,
    seen              REAL    NOT NULL, -- seconds since 1970 UTC
    PRIMARY KEY (reader, partition)
) WITHOUT ROWID;
