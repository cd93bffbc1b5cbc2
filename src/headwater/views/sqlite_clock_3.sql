-- Version 3: the clock by which leases end and deadlines are due, one for all processes.
CREATE TABLE view_clock (
    only_row  INTEGER PRIMARY KEY CHECK (only_row = 1),
    boot      TEXT NOT NULL, -- of the machine
    began     REAL NOT NULL  -- seconds since 1970 UTC
);
