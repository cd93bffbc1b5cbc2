"""How log lines look: for a person at a terminal, or as JSON for machines."""

import logging
import os
import sys
from typing import Any

import structlog

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure_logs(level: str = "info", format: str = "console", *, final: bool = True) -> None:
    """Send structlog and the standard library's logging to standard error, in one form.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``console`` or ``json``.
        final: it will not be changed again (loggers may keep it: faster).
    """
    number = _LEVELS.get(level, 20)
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
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=final,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=max(number, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # we say ourselves what listens where


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
