-- Version 1 of the tables of the view store, beside one table per view type and generation.

-- Which view types are stored in which form. Names that differ by case only would share a table.
CREATE TABLE view_shapes (
    view        TEXT    NOT NULL COLLATE NOCASE,
    generation  INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    columns     TEXT    NOT NULL, -- JSON: the key, then the indexes
    PRIMARY KEY (view, generation)
) WITHOUT ROWID;

-- Active generations; without a row it is 1. They only rise.
CREATE TABLE view_generations (
    kind        TEXT    NOT NULL CHECK (kind IN ('view', 'processor')),
    name        TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
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
