-- name: mark
-- Sent with others in one message, which takes no parameters; marks are UUIDs.
INSERT INTO headwater_commits (mark, stored) VALUES ('{mark}', true)

-- name: remove
DELETE FROM headwater_commits WHERE mark IN ('{marks}')

-- name: ask
-- Waits for a transaction that is just storing the mark.
INSERT INTO headwater_commits (mark, stored) VALUES ($1, false)
ON CONFLICT (mark) DO UPDATE SET mark = excluded.mark
RETURNING stored

-- name: forget_old
-- Of processes that ended before they could remove their last ones.
DELETE FROM headwater_commits
WHERE mark IN (
    SELECT mark FROM headwater_commits
    WHERE at < now() - interval '1 day'
    FOR UPDATE SKIP LOCKED)
