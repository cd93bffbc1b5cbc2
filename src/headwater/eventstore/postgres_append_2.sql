-- Version 2 made the function append_events, which version 5 makes anew; nothing is left to do.
SELECT;
