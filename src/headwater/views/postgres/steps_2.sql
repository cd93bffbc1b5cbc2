-- Version 2: a segment counts the steps that its token has made.
--
-- Whoever moves a token says which step it stands at. So a processor that goes on in memory after
-- its last commits were lost, as a server that took over may have lost them, is found out. And the
-- count settles what became of a commit whose answer was lost; the number of the transaction does
-- not, because a server that crashed before it was on disk gives it away once more.
ALTER TABLE view_segments ADD COLUMN steps bigint NOT NULL DEFAULT 0;
