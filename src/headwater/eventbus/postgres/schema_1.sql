-- The number of partitions, fixed when the bus is made.
CREATE TABLE bus_settings (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions  integer NOT NULL
);

-- The event stores that events come from.
CREATE TABLE bus_origins (
    origin  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source  text NOT NULL COLLATE "C",
    epoch   text NOT NULL COLLATE "C",
    UNIQUE (source, epoch)
);

-- Any program may read the documents. It appends its own with bus_append, without origin and
-- position: SELECT <schema>.bus_append('{2}', '{"{...}"}', '{null}', '{null}').
CREATE TABLE bus_events (
    partition         integer NOT NULL,
    partition_offset  bigint  NOT NULL, -- dense from 0
    document          text    NOT NULL, -- CloudEvents 1.0 JSON
    origin            integer, -- of bus_origins, which are never deleted; a reference would lock them
    position          bigint,
    PRIMARY KEY (partition, partition_offset)
);

-- An event is stored once, however often it is published.
CREATE UNIQUE INDEX bus_events_by_position ON bus_events (origin, position)
WHERE origin IS NOT NULL;

-- Which types of events each service publishes.
CREATE TABLE bus_types (
    source    text NOT NULL COLLATE "C",
    name      text NOT NULL COLLATE "C",
    document  text NOT NULL, -- JSON
    PRIMARY KEY (source, name)
);

-- Up to where a partition went at some times, and how many bytes came since the time before.
CREATE TABLE bus_growth (
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
