"""Running a processor: claims, the loop of a worker, its commits, retries and progress."""
