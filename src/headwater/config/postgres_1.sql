-- Version 1 of the tables of the configuration.

-- What tells these settings from those of any other database.
CREATE TABLE config_store (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id        uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO config_store DEFAULT VALUES;

-- What was stored at one time, by one person. Rows are only ever added.
CREATE TABLE config_changes (
    change    bigint PRIMARY KEY CHECK (change > 0), -- dense from 1
    recorded  timestamptz NOT NULL DEFAULT clock_timestamp(),
    author    text NOT NULL,
    comment   text NOT NULL
);

-- Every content that a file ever had. Rows are only ever added.
CREATE TABLE config_files (
    name     text NOT NULL COLLATE "C",
    change   bigint NOT NULL REFERENCES config_changes (change),
    kind     text NOT NULL CHECK (kind IN ('added', 'changed', 'removed')),
    content  text CHECK ((content IS NULL) = (kind = 'removed')),
    PRIMARY KEY (name, change)
);
CREATE INDEX config_files_by_change ON config_files (change);

-- For a person with psql: what is served.
CREATE VIEW config_now AS
SELECT * FROM (
    SELECT DISTINCT ON (name) name, change, content FROM config_files ORDER BY name, change DESC
) AS latest
WHERE content IS NOT NULL;
