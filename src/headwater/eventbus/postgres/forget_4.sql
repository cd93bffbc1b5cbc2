-- Version 4: what is read by all, and old or too much, is forgotten.

-- How far a partition went at some times, and how many bytes came since the mark before.
CREATE TABLE bus_marks (
    partition         integer          NOT NULL,
    partition_offset  bigint           NOT NULL,
    at                double precision NOT NULL, -- seconds since 1970 UTC
    bytes             bigint           NOT NULL,
    PRIMARY KEY (partition, partition_offset)
);

-- How far who reads has come for good.
CREATE TABLE bus_readers (
    reader            text             NOT NULL COLLATE "C",
    partition         integer          NOT NULL,
    partition_offset  bigint           NOT NULL,
    seen              double precision NOT NULL, -- seconds since 1970 UTC
    PRIMARY KEY (reader, partition)
);
