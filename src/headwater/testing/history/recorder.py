"""Recording calls, in memory and in files, and putting what several processes recorded together.

A file has a line of JSON when a call begins, before anything is sent, and one when it ends. So of a
process that is killed it is known what it had begun. Several processes may append to one file: each
line is one write, and Linux keeps writes to a local file whole.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import msgspec

from headwater.errors import HeadwaterError, InvalidInput
from headwater.eventstore.sharded import shard_of
from headwater.testing.history.calls import (
    NOT_FOUND,
    NOTHING,
    Append,
    Ask,
    Call,
    Outcome,
    Read,
    Request,
    Send,
    Version,
    canonical,
    refused,
)

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class _Clock(msgspec.Struct, array_like=True, tag="clock"):
    """Of a process: which clock it reads, and that clock beside the wall clock, nanoseconds."""

    process: str
    boot: str
    monotonic: int
    wall: int


class _Begin(msgspec.Struct, array_like=True, tag="begin"):
    process: str
    number: int
    session: str
    source: str
    shard: int
    at: int
    request: Request


class _End(msgspec.Struct, array_like=True, tag="end"):
    process: str
    number: int
    at: int
    outcome: Outcome | None


_Line = _Clock | _Begin | _End
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class Pending:
    """A call on its way, as a context manager: it ends with the block.

    What nobody answered ends as unknown; a `HeadwaterError` that leaves the block is the answer.
    """

    __slots__ = ("_history", "call")

    def __init__(self, history: "History", call: Call) -> None:
        """Belong to a history; use `History.call`."""
        self._history = history
        self.call = call

    def answer(self, outcome: Outcome | None) -> None:
        """Note what was answered; None for nothing. The first answer counts."""
        if self.call.end is None:
            self._history._end(self.call, outcome)  # noqa: SLF001 - of one piece with the history

    def fail(self, error: BaseException) -> None:
        """Note the error that was the answer; of another one than ours nothing is known."""
        if isinstance(self.call.request, Ask) and getattr(error, "code", "") == NOT_FOUND:
            self.answer(NOTHING)
        else:
            self.answer(refused(error) if isinstance(error, HeadwaterError) else None)

    def __enter__(self) -> Self:
        """Go on."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """End the call, if nobody has."""
        if error is not None:
            self.fail(error)
        else:
            self.answer(None)


class History:
    """Calls, in the order in which they began here; `check_history` tells whether they agree.

    Any number of tasks of one process may record into one history, and any number of processes
    into one file, each through a history of its own; `History.load` puts them together.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        process: str = "",
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Begin without calls.

        Args:
            path: where calls are recorded, too; the file is made or appended to.
            process: the name of this process; made up when empty.
            clock: nanoseconds, monotonic, the same for all processes of a machine.
        """
        self.calls: list[Call] = []
        self._process = process or f"{os.getpid()}-{uuid4().hex[:8]}"
        self._clock = clock
        self._numbers = 0
        self._file: int | None = None
        if path is not None:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            boot = _BOOT.read_text().strip() if _BOOT.exists() else uuid4().hex
            self._write(_Clock(self._process, boot, clock(), time.time_ns()))  # noqa: TID251  # in nanoseconds, as the other

    # --- recording ---

    def call(
        self, request: Request, *, session: str = "", source: str = "", shard: int = 0
    ) -> Pending:
        """Begin a call: ``with history.call(Head()) as call: ...; call.answer(Number(7))``.

        Args:
            request: what is asked.
            session: whose call it is, when that matters for what it may see.
            source: which store or service is asked, when there are several.
            shard: which log of a sharded store is asked.
        """
        self._numbers += 1
        call = Call(self._numbers, self._process, session, source, shard, request, 0)
        self.calls.append(call)
        call.begin = self._clock()
        if self._file is not None:
            fields = (self._process, call.number, session, source, shard, call.begin, request)
            self._write(_Begin(*fields))
        return Pending(self, call)

    def command(
        self,
        stream: str,
        name: str,
        content: Any,
        *,
        key: str = "",
        expected_version: int | None = None,
        conversation: str = "",
        session: str = "",
        source: str = "",
    ) -> Pending:
        """Begin a command that is sent by other means, such as HTTP.

        ``call.request.conversation`` must be its correlation id (header
        ``Headwater-Correlation-Id``), by which its events are found.

        Args:
            stream: of the aggregate, ``Account/7``.
            name: the command's wire name.
            content: all its fields, those from the path, too.
            key: its idempotency key.
            expected_version: what ``If-Match`` says.
            conversation: the correlation id; made up when empty. Each call needs its own.
            session: as for `call`.
            source: as for `call`.
        """
        conversation = conversation or uuid4().hex
        send = Send(stream, name, canonical(content), conversation, key, expected_version)
        return self.call(send, session=session, source=source)

    def _end(self, call: Call, outcome: Outcome | None) -> None:
        call.outcome = outcome
        call.end = self._clock()
        if self._file is not None:
            self._write(_End(self._process, call.number, call.end, outcome))

    def _write(self, line: _Line) -> None:
        assert self._file is not None
        os.write(self._file, _encode(line) + b"\n")

    def close(self) -> None:
        """Close the file; what has been recorded stays. Twice is fine."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    # --- using ---

    @classmethod
    def load(cls, *paths: Path | str, clock_error_s: float | None = None) -> Self:
        """Return all that processes have recorded in files.

        The clocks of processes on one machine agree. Those of several are aligned by the wall
        clock: ``clock_error_s`` says by how much that may differ between any two of them, and
        each call counts as that much longer, at both ends. A line that is not complete, because
        its writer was killed, is left out when it is the last one.

        Raises:
            InvalidInput: a line is no part of a history, or the clocks of several machines are
                to be compared and no error is given.
        """
        history = cls()
        reader = _Reader(clock_error_s)
        for path in paths:
            reader.read(Path(path))
        history.calls = reader.calls
        return history

    def of(self, source: str | None = None, *, shard: int = 0, shards: int = 1) -> Self:
        """Return a history with the calls of one source, or of one of its shards.

        Args:
            source: as it was recorded; None for all.
            shard: the number of the log.
            shards: how many logs the store is spread over.
        """
        part = type(self)(process=self._process, clock=self._clock)
        part.calls = [
            call
            for call in self.calls
            if source in (None, call.source) and _shard(call, shards) in (None, shard)
        ]
        return part

    def __len__(self) -> int:
        """Return how many calls there are."""
        return len(self.calls)

    def __iter__(self) -> Iterator[Call]:
        """Iterate over the calls."""
        return iter(self.calls)


def _shard(call: Call, shards: int) -> int | None:
    """Return the shard that a call is about; None for a query, which may be about any."""
    request = call.request
    if shards == 1 or isinstance(request, Ask):
        return None
    stream: str | None = None
    match request:
        case Append(writes) if writes:
            stream = writes[0].stream
        case Send() | Version():
            stream = request.stream or None
        case Read():
            stream = request.stream
    return call.shard if stream is None else shard_of(stream, shards)


class _Reader:
    """Puts the lines of several processes together."""

    def __init__(self, clock_error_s: float | None) -> None:
        self.calls: list[Call] = []
        self._error_s = clock_error_s
        self._boots: dict[str, int] = {}  # how far each machine's clock is from the wall
        self._clocks: dict[str, tuple[int, int]] = {}  # of each process: what to add, error
        self._open: dict[tuple[str, int], Call] = {}
        self._texts: dict[str, str] = {}  # each text once: a million calls share few

    def read(self, path: Path) -> None:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    self._take(_decode(line))
                except (msgspec.MsgspecError, KeyError) as error:
                    if not line.endswith(b"\n"):
                        return
                    reason = f"{path}, line {number} is no part of a history: {error!r}"
                    raise InvalidInput(reason=reason) from error

    def _take(self, line: _Line) -> None:
        match line:
            case _Clock():
                self._clocks[line.process] = self._aligned(line)
            case _Begin():
                add, error = self._clocks[line.process]
                text = self._texts
                call = Call(
                    line.number,
                    text.setdefault(line.process, line.process),
                    text.setdefault(line.session, line.session),
                    text.setdefault(line.source, line.source),
                    line.shard,
                    line.request,
                    line.at + add - error,
                )
                self.calls.append(call)
                self._open[call.process, call.number] = call
            case _End():
                add, error = self._clocks[line.process]
                call = self._open.pop((line.process, line.number))
                call.end, call.outcome = line.at + add + error, line.outcome

    def _aligned(self, clock: _Clock) -> tuple[int, int]:
        """Return what to add to a process's times, and by how much they may be wrong."""
        offset = self._boots.setdefault(clock.boot, clock.wall - clock.monotonic)
        if len(self._boots) > 1 and self._error_s is None:
            reason = (
                f"process {clock.process!r} ran on another machine (boot {clock.boot}) than those "
                "before: say by how much their wall clocks may differ, clock_error_s="
            )
            raise InvalidInput(reason=reason)
        first = next(iter(self._boots.values()))
        # Half of it at each end: two calls are compared, one of each machine.
        return offset - first, int((self._error_s or 0.0) * 1e9 / 2)
