-- Version 1 of the marks by which it is found out what became of a commit whose answer was lost.
--
-- A mark is stored with what a transaction stores. Who asks stores it as one that was given up, if
-- it is not there yet: whoever comes first decides, so a commit that is still on its way comes too
-- late. The number of a transaction would not do: a server that crashed before it was on disk gives
-- it away once more.
CREATE TABLE headwater_commits (
    mark    text        PRIMARY KEY COLLATE "C",
    stored  boolean     NOT NULL, -- false: it was given up
    at      timestamptz NOT NULL DEFAULT now()
);
