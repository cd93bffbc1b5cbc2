-- Version 2: which types of events each service publishes.
CREATE TABLE bus_types (
    source    TEXT NOT NULL,
    name      TEXT NOT NULL,
    document  TEXT NOT NULL, -- JSON
    PRIMARY KEY (source, name)
) WITHOUT ROWID;
