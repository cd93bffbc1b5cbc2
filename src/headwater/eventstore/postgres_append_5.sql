-- In place of version 5's append_events there is version 6's.
SELECT;
