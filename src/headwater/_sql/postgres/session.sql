-- name: look
-- What some servers only know is switched off here: with others it cannot be asked for at the start.
SELECT
    pg_backend_pid() AS pid,
    current_setting('search_path') AS path,
    current_setting('server_encoding') AS encoding,
    current_setting('transaction_read_only') = 'on' AS read_only,
    floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock,
    CASE WHEN current_setting('idle_session_timeout', true) <> '0'
        THEN set_config('idle_session_timeout', '0', false) END,
    CASE WHEN current_setting('transaction_timeout', true) <> '0'
        THEN set_config('transaction_timeout', '0', false) END

-- name: pid
SELECT pg_backend_pid()

-- name: reset
-- What somebody else has left in a session that a pooler gives to one after the other.
DISCARD ALL

-- name: set
SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS given (name, value)
