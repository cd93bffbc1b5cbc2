-- name: read
-- One statement, so that everything is of the same moment; the first row is there in any case.
SELECT state.store::text, state.revision AS latest, start.after = 0 AS complete,
       i.id, i.content, i.holder, i.override, i.expired, i.doubted, i.revision
FROM registry_state AS state
CROSS JOIN LATERAL (
    SELECT CASE WHEN state.store::text = $1::text
                 AND $2::bigint BETWEEN greatest(state.forgotten, 1) AND state.revision
                THEN $2::bigint ELSE 0 END AS after
) AS start
LEFT JOIN registry_instances AS i
    ON i.revision > start.after AND (start.after > 0 OR i.content IS NOT NULL)
ORDER BY i.revision

-- name: write
SELECT * FROM registry_write($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: beat
WITH own AS (
    INSERT INTO registry_servers (server, beats) VALUES ($1, 1)
    ON CONFLICT (server) DO UPDATE
    SET beats = registry_servers.beats + 1, seen = clock_timestamp()
    RETURNING server, beats
), gone AS (
    DELETE FROM registry_servers
    WHERE server <> $1 AND seen < clock_timestamp() - interval '1 day'
)
SELECT server, beats FROM own
UNION ALL
SELECT server, beats FROM registry_servers WHERE server <> $1

-- name: leave
DELETE FROM registry_servers WHERE server = $1
