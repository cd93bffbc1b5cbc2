-- Version 1 of the tables of the view store, beside one table per view type and generation.

-- Which view types are stored in which form. Names that differ by case only would share a table.
CREATE TABLE view_shapes (
    view        TEXT    NOT NULL COLLATE NOCASE,
    generation  INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    columns     TEXT    NOT NULL, -- JSON: the key, then the indexes
    processor   TEXT    NOT NULL DEFAULT '', -- whose it is; empty for views that are nobody's
    PRIMARY KEY (view, generation)
) WITHOUT ROWID;

-- What is known of generations; those that are nobody's and were never active have no row.
CREATE TABLE view_generations (
    processor   TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    code        TEXT    NOT NULL DEFAULT '', -- whose it is: programs tell each other apart by it
    complete    INTEGER NOT NULL DEFAULT 0,
    used        REAL    NOT NULL DEFAULT 0.0, -- seconds since 1970 UTC
    PRIMARY KEY (processor, generation)
) WITHOUT ROWID;

-- What is left of generations that were dropped.
CREATE TABLE view_dropped (
    processor   TEXT    NOT NULL PRIMARY KEY,
    -- Numbers up to this one belonged to generations that were dropped for good.
    last        INTEGER NOT NULL DEFAULT 0,
    -- The highest fence of their segments, which later ones go on above: else a claim from before
    -- could pass for one from after.
    fence       INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- Segments of processors: tracking tokens and claims.
CREATE TABLE view_segments (
    processor    TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    number       INTEGER NOT NULL, -- this is share `number` of `count`
    count        INTEGER NOT NULL,
    token        TEXT    NOT NULL,
    owner        TEXT    NOT NULL DEFAULT '',
    lease_until  REAL    NOT NULL DEFAULT 0.0,
    fence        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (processor, generation, number, count)
) WITHOUT ROWID;
