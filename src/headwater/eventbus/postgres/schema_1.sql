-- Version 1 of the tables of the event bus.

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
    origin            integer, -- of bus_origins, which are never deleted
    position          bigint,
    PRIMARY KEY (partition, partition_offset)
);

-- An event is stored once, however often it is published.
CREATE UNIQUE INDEX bus_events_by_position ON bus_events (origin, position)
WHERE origin IS NOT NULL;
