-- Version 3: generations belong to the code that fills them, so that several are in use at a time.

-- What is known of generations; those that are nobody's and were never active have no row.
CREATE TABLE view_codes (
    processor   TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    code        TEXT    NOT NULL DEFAULT '',
    complete    INTEGER NOT NULL DEFAULT 0,
    used        REAL    NOT NULL DEFAULT 0.0, -- seconds since 1970 UTC
    PRIMARY KEY (processor, generation)
) WITHOUT ROWID;

-- Of what there is the code is unknown.
INSERT INTO view_codes (processor, generation, complete)
SELECT DISTINCT processor, generation, 1
FROM view_segments AS segment
WHERE generation = coalesce(
    (SELECT active.generation FROM view_generations AS active
     WHERE active.kind = 'processor' AND active.name = segment.processor), 1);

-- Whose table it is; empty for views that are nobody's.
ALTER TABLE view_shapes ADD COLUMN processor TEXT NOT NULL DEFAULT '';

-- For a processor: numbers up to this one belonged to generations that were dropped for good.
ALTER TABLE view_generations ADD COLUMN last INTEGER NOT NULL DEFAULT 0;
