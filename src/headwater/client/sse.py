"""Server-sent events, read as they arrive."""

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventParser:
    """Turns chunks of a ``text/event-stream`` into the data of each event.

    Source: HTML Living Standard, section 9.2.6. Fields other than ``data`` are skipped, and so
    is an event without data.
    """

    def __init__(self) -> None:
        """Start at the beginning of a stream."""
        self._rest = b""
        self._data: list[bytes] = []
        self._begun = False
        self.size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk completes; ``size`` bytes are kept."""
        text = self._rest + chunk
        if not self._begun:
            if len(text) < 3 and b"\xef\xbb\xbf".startswith(text):
                self._rest = text
                return []
            self._begun = True
            text = text.removeprefix(b"\xef\xbb\xbf")
        held = b""
        if text.endswith(b"\r"):  # the first half of a line end, perhaps
            text, held = text[:-1], b"\r"
        *lines, rest = _LINE_END.split(text)
        self._rest = rest + held
        events = [data for line in lines if (data := self._line(line)) is not None]
        self.size = len(self._rest) + sum(map(len, self._data))
        return events

    def _line(self, line: bytes) -> bytes | None:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return None
        if not self._data:
            return None
        data = b"\n".join(self._data)
        self._data.clear()
        return data
