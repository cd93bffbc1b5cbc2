-- Version 3: fences go on to rise when segments are dropped and made again.
--
-- For a processor: the highest fence of its segments that were dropped with a generation which was
-- not active yet. Else a claim from before could pass for one from after.
ALTER TABLE view_generations ADD COLUMN fence bigint NOT NULL DEFAULT 0;
