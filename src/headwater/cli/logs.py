"""How log lines look: for a person at a terminal, or as JSON for machines."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from typing import Any, TextIO, TypeVar

import structlog

from headwater.cli.terminal import silence

T = TypeVar("T")

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def run_quietly(work: Coroutine[Any, Any, T]) -> T:
    """Run what a command does; of its logs only errors are shown."""
    configure_logs("error")
    return asyncio.run(work)


def configure_logs(level: str = "info", format: str = "console", *, final: bool = True) -> None:
    """Send structlog and the standard library's logging to standard error, in one form.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``console`` or ``json``.
        final: it will not be changed again (loggers may keep it: faster).
    """
    number = _LEVELS.get(level, 20)
    stream: Any = _Lasting(sys.stderr)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(
            fmt="iso" if format == "json" else "%H:%M:%S.%f", utc=format == "json"
        ),
    ]
    last: list[Any] = [_console()]
    if format == "json":
        last = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=final,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # noqa: TID251  # others log so; we say ourselves what listens where


class _Lasting:
    """Standard error, whose loss (a closed terminal, the end of a pipe's reader) fails nobody.

    Whoever logs does something that matters more.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError:
            silence(self._stream)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            silence(self._stream)


def _console() -> structlog.dev.ConsoleRenderer:
    colors = "NO_COLOR" not in os.environ and (
        sys.stderr.isatty() or os.environ.get("FORCE_COLOR", "") not in ("", "0")
    )
    return structlog.dev.ConsoleRenderer(
        colors=colors,
        pad_event_to=0,
        pad_level=False,
        exception_formatter=structlog.dev.plain_traceback,
    )
