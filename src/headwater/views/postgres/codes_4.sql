-- Version 4: generations belong to the code that fills them, so that several are in use at a time.

-- What is known of generations; those that are nobody's and were never active have no row.
CREATE TABLE view_codes (
    processor   text             NOT NULL COLLATE "C",
    generation  integer          NOT NULL,
    code        text             NOT NULL DEFAULT '' COLLATE "C",
    complete    boolean          NOT NULL DEFAULT false,
    used        double precision NOT NULL DEFAULT 0.0, -- seconds since 1970 UTC
    PRIMARY KEY (processor, generation)
);

-- Of what there is the code is unknown.
INSERT INTO view_codes (processor, generation, complete)
SELECT DISTINCT processor, generation, true
FROM view_segments AS segment
WHERE generation = coalesce(
    (SELECT active.generation FROM view_generations AS active
     WHERE active.kind = 'processor' AND active.name = segment.processor), 1);

-- Whose table it is; empty for views that are nobody's.
ALTER TABLE view_shapes ADD COLUMN processor text NOT NULL DEFAULT '' COLLATE "C";

-- For a processor: numbers up to this one belonged to generations that were dropped for good.
ALTER TABLE view_generations ADD COLUMN last integer NOT NULL DEFAULT 0;
