-- Version 1 of the tables of the event bus.

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
