"""A process that acts as one that recovers a WAL file: ``peer_recovery.py <path>``.

It makes the shared index invalid and holds the locks of writing, checkpointing and recovering
(SQLite's wal.c: bytes 120 to 122), until it gets a line.
"""

import fcntl
import os
import sys

FILE = os.open(f"{sys.argv[1]}-shm", os.O_RDWR)
fcntl.lockf(FILE, fcntl.LOCK_EX, 3, 120)
os.pwrite(FILE, b"\xff" * 96, 0)
print("recovering", flush=True)  # noqa: T201  # how it talks to the test
sys.stdin.readline()
