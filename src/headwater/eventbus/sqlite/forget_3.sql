-- Version 3: what is read by all, and old or too much, is forgotten.

-- How far a partition went at some times, and how many bytes came since the mark before.
CREATE TABLE bus_marks (
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
