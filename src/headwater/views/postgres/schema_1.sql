-- Version 1 of the tables of the view store, beside one table per view type and generation.

-- Which view types are stored in which form. Names that differ by case only are refused, as in
-- the other view stores, so that views can move between them.
CREATE TABLE view_shapes (
    view        text    NOT NULL COLLATE "C", -- the name, its case folded
    generation  integer NOT NULL,
    name        text    NOT NULL COLLATE "C",
    columns     text    NOT NULL,             -- JSON: the key, then the indexes
    PRIMARY KEY (view, generation)
);

-- Active generations; without a row it is 1. They only rise.
CREATE TABLE view_generations (
    kind        text    NOT NULL CHECK (kind IN ('view', 'processor')),
    name        text    NOT NULL COLLATE "C",
    generation  integer NOT NULL,
    PRIMARY KEY (kind, name)
);

-- Segments of processors: tracking tokens and claims. Updated all the time, hence room in the
-- pages for the next versions of the rows.
CREATE TABLE view_segments (
    processor    text             NOT NULL COLLATE "C",
    generation   integer          NOT NULL,
    number       integer          NOT NULL, -- this is share `number` of `count`
    count        integer          NOT NULL,
    token        text             NOT NULL,
    owner        text             NOT NULL DEFAULT '',
    lease_until  double precision NOT NULL DEFAULT 0.0,
    fence        bigint           NOT NULL DEFAULT 0,
    PRIMARY KEY (processor, generation, number, count)
) WITH (fillfactor = 25);
