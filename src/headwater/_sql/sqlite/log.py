"""Keeps the write-ahead log of a file short while it is written and read without a pause.

SQLite begins the log anew when all of it was copied back and nobody reads in it any more. Between
readers that overlap and a writer that goes on there is no such moment, so one is made: the writer
waits for the last pages to be copied, and for the reads that are under way.
"""

import contextlib
import os
import threading
from collections.abc import Callable

import apsw
import structlog

from headwater._sql.sqlite.connection import LOG_BYTES_MAX, LOG_PAGES, patience

_AGAIN = 8  # after one eighth more
_READERS_S_MAX = 0.25
_WRITER_S_MAX = 2.0
_FRAME = 4096 + 24  # bytes of a page in the log
_ROOM = 128  # pages by which its file grows
_ROOM_LEFT = 32  # when fewer are left
_ROOM_FROM = 64  # what is written so rarely that its log is shorter needs none
_log = structlog.get_logger("headwater.sql")

Post = Callable[[Callable[[apsw.Connection], None]], None]


class LogKeeper:
    """Watches the connections of a file that write, and has its log begun anew in time."""

    def __init__(self, path: str, post: Post, *, pages: int = LOG_PAGES) -> None:
        """Watch nothing yet.

        Args:
            path: the file.
            post: runs work on a connection, and a thread, that do nothing else.
            pages: at which length the log is copied back; a little later the writer waits for it.
        """
        self.long = False
        """Whether a writer shall wait for `begin_anew` before it goes on."""
        self._path = path
        self._post = post
        self._least = self._at = pages
        self._pages = 0
        self._room = 0  # for so many pages the file of the log is long enough
        self._told = False

    def watch(self, connection: apsw.Connection, *, wait: bool) -> None:
        """Look at each commit how long the log is; in place of checkpoints within the commit.

        Args:
            connection: that writes.
            wait: let its thread wait when the log is long; else whoever writes looks for `long`.
        """

        def committed(_connection: apsw.Connection, _name: str, pages: int) -> int:
            if pages < self._pages:
                self.long, self._at = False, self._least
                self._room = 0
            self._pages = pages
            if pages >= self._at:
                self._at = pages + self._least // _AGAIN
                self.long = pages >= self._least + self._least // _AGAIN
                if self.long and wait:
                    self._begin_anew_soon()
                elif not self.long:
                    self._post(_copy_back)
            return int(apsw.SQLITE_OK)

        connection.set_wal_hook(committed)

    def make_room(self, log: str) -> None:
        """Lengthen the log's file before it is full; under the write lock, so by one at a time.

        A commit that lengthens the file waits for the disk twice as long as one that overwrites
        what is there, as the new length has to be on the disk, too. What is added are zeros, which
        are no frames of a log: whoever reads it stops there.

        Args:
            log: the path of the log.
        """
        if self._pages < _ROOM_FROM or self._pages + _ROOM_LEFT <= self._room:
            return
        with contextlib.suppress(OSError):  # then the commit lengthens it, or says what is wrong
            file = os.open(log, os.O_WRONLY)
            try:
                size = os.fstat(file).st_size
                if size < (self._pages + _ROOM_LEFT) * _FRAME:
                    size += os.pwrite(file, bytes(_ROOM * _FRAME), size)
                self._room = size // _FRAME
            finally:
                os.close(file)

    def _begin_anew_soon(self) -> None:
        done = threading.Event()

        def work(connection: apsw.Connection) -> None:
            try:
                self.begin_anew(connection)
            finally:
                done.set()

        self._post(work)
        done.wait(_WRITER_S_MAX)

    def begin_anew(self, connection: apsw.Connection) -> None:
        """Copy the log back and have the next writer begin it anew, if no read lasts too long."""
        self.long = False
        connection.set_busy_handler(patience(_READERS_S_MAX))
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        except apsw.BusyError:  # another process is at it, or a read goes on
            size = self._pages * int(connection.execute("PRAGMA page_size").get or 0)
            if size > LOG_BYTES_MAX and not self._told:
                self._told = True
                _log.warning(
                    "the write-ahead log is long, as somebody has been reading since it was begun: "
                    "end the program that has a transaction open",
                    store=str(self._path),
                    megabytes=size >> 20,
                )
        else:
            self._told = False


def _copy_back(connection: apsw.Connection) -> None:
    with contextlib.suppress(apsw.BusyError):  # another process is at it
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)  # holds up nobody


__all__ = ["LogKeeper"]
