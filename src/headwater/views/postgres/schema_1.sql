-- Version 1 of the tables of the view store, beside one table per view type and generation.

-- Which view types are stored in which form. Names that differ by case only are refused, as in
-- the other view stores, so that views can move between them.
CREATE TABLE view_shapes (
    view        text    NOT NULL COLLATE "C", -- the name, its case folded
    generation  integer NOT NULL,
    name        text    NOT NULL COLLATE "C",
    columns     text    NOT NULL,             -- JSON: the key, then the indexes
    processor   text    NOT NULL DEFAULT '' COLLATE "C", -- whose it is; empty: nobody's
    PRIMARY KEY (view, generation)
);

-- What is known of generations; those that are nobody's and were never active have no row.
CREATE TABLE view_generations (
    processor   text             NOT NULL COLLATE "C",
    generation  integer          NOT NULL,
    code        text             NOT NULL DEFAULT '' COLLATE "C", -- tells programs apart
    complete    boolean          NOT NULL DEFAULT false,
    used        double precision NOT NULL DEFAULT 0.0, -- seconds since 1970 UTC
    PRIMARY KEY (processor, generation)
);

-- What is left of generations that were dropped.
CREATE TABLE view_dropped (
    processor   text    PRIMARY KEY COLLATE "C",
    -- Numbers up to this one belonged to generations that were dropped for good.
    last        integer NOT NULL DEFAULT 0,
    -- The highest fence of their segments, which later ones go on above: else a claim from before
    -- could pass for one from after.
    fence       bigint  NOT NULL DEFAULT 0
);

-- Segments of processors: tracking tokens and claims. Updated all the time, hence room in the
-- pages for the next versions of the rows.
--
-- Whoever moves a token says which step it stands at. So a processor that goes on in memory after
-- its last commits were lost, as a server that took over may have lost them, is found out. And the
-- count settles what became of a commit whose answer was lost; the number of the transaction does
-- not, because a server that crashed before it was on disk gives it away once more.
CREATE TABLE view_segments (
    processor    text             NOT NULL COLLATE "C",
    generation   integer          NOT NULL,
    number       integer          NOT NULL, -- this is share `number` of `count`
    count        integer          NOT NULL,
    token        text             NOT NULL,
    owner        text             NOT NULL DEFAULT '',
    lease_until  double precision NOT NULL DEFAULT 0.0,
    fence        bigint           NOT NULL DEFAULT 0,
    steps        bigint           NOT NULL DEFAULT 0, -- that its token has made
    PRIMARY KEY (processor, generation, number, count)
) WITH (fillfactor = 25);

-- A row for each transaction in which an author has the connection, and only until its end: what
-- it refers to is never there, which is looked at when somebody commits. So nobody commits but
-- the store, which removes the row before.
CREATE TABLE view_guards (
    number  xid8 PRIMARY KEY, -- of the transaction
    never   xid8 NOT NULL DEFAULT '0',
    CONSTRAINT "a handler must leave the end of its transaction to the store"
        FOREIGN KEY (never) REFERENCES view_guards DEFERRABLE INITIALLY DEFERRED
);
