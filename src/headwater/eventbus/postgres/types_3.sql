-- Version 3: which types of events each service publishes.
CREATE TABLE bus_types (
    source    text NOT NULL COLLATE "C",
    name      text NOT NULL COLLATE "C",
    document  text NOT NULL, -- JSON
    PRIMARY KEY (source, name)
);
