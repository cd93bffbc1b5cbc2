"""The commands and their help; each is imported only when it is called."""

import errno
import os
import sys
from collections.abc import Sequence

from cyclopts import App

from headwater.errors import (
    AddressInUse,
    ConfigurationError,
    DeclarationError,
    EventUnreadable,
    HeadwaterError,
    InvalidInput,
    StartupError,
    StoreError,
    Unavailable,
    ViewUnreadable,
)

FAILED, WRONG, NOT_YET = 1, 2, 75
"""Exit codes: it failed; it cannot succeed as things are; something may be there in a while."""

ERROR = "error: "
"""Begins the line that says why a command failed."""

_NOT_YET = (AddressInUse, StartupError, Unavailable)
_WRONG = (ConfigurationError, DeclarationError, InvalidInput, StoreError)
_SHORT = (  # the machine has no more of something at the moment
    *(errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EAGAIN, errno.EIO, errno.EROFS),
)
_EXTRAS = {
    "aio_pika": "amqp",
    "asyncpg": "postgres",
    "confluent_kafka": "kafka",
    "google": "gateway",
    "grpclib": "gateway",
    "opentelemetry": "tracing",
    "rstream": "rabbitmq",
}

_COMMANDS = {
    "up": ("up:up", "Run a whole system on this machine, as headwater.toml says."),
    "run": ("run:run", "Run one instance of a service, or a platform service."),
    "services": ("services:services", "List the instances that are registered."),
    "events": ("events:events", "Show stored events; --follow for what comes."),
    "state": ("state:state", "Show an aggregate or a view as it is, or as it was."),
    "processors": ("processors:app", "Show how far processors have come; pause and rebuild them."),
    "bus": ("bus:app", "Show the event bus: partitions, who reads it and how far; its events."),
    "dead-letters": (
        "dead_letters:app",
        "Inspect, retry and drop events that could not be handled.",
    ),
    "schedule": ("schedule:app", "List and cancel commands that are to be sent later."),
    "snapshots": ("snapshots:app", "Check and drop the stored states of aggregates."),
    "config": ("config:app", "Push, pull and restore settings that are in a database."),
    "copy-store": (
        "copy_store:copy_store",
        "Copy an event store into another one, or compare the two.",
    ),
    "retag": ("retag:retag", "Give stored events the tags that their classes have today."),
    "schemas": (
        "schemas:app",
        "Release the schemas of events; check today's against those released.",
    ),
    "asyncapi": ("asyncapi:asyncapi", "Print the AsyncAPI document of the services' events."),
    "new": ("new:new", "Make a new service that runs at once."),
    "version": ("version:version", "Print the version."),
}


def build_app() -> App:
    """Return the command line application."""
    from headwater import __version__

    app = App(
        name="headwater",
        help="Event-driven microservices with CQRS and event sourcing.",
        version=__version__,
    )
    for name, (path, text) in _COMMANDS.items():
        app.command(f"headwater.cli.commands.{path}", name=name, help=text)
    return app


def run_command_line(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process.

    Exit codes: 0 done, 1 failed, 2 something in the input, the configuration, the program or the
    stored data is wrong, 75 a port is taken or something needed is not there yet, 130 interrupted.
    Errors are one line on standard error.
    """
    try:
        build_app()(arguments)
    except HeadwaterError as error:
        fail(error)
    except ExceptionGroup as errors:  # of tasks that ran beside each other
        known = errors.subgroup(HeadwaterError)
        if known is None or known.exceptions != errors.exceptions:
            raise
        fail(_first(known))
    except ImportError as error:
        fail(_missing(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in _SHORT:
            raise
        reason = f"{error.strerror}{f' ({error.filename})' if error.filename else ''}: free some"
        fail(StartupError(subject="this machine", reason=reason))


def _first(errors: ExceptionGroup[HeadwaterError]) -> HeadwaterError:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


def _missing(error: ImportError) -> ConfigurationError:
    package = (error.name or "").partition(".")[0]
    extra = f"headwater[{_EXTRAS[package]}]" if package in _EXTRAS else f"what has {package!r}"
    reason = f"cannot be imported ({error}): run `pip install {extra}`"
    return ConfigurationError(subject=error.name or "a module", reason=reason)


def exit_code(error: HeadwaterError) -> int:
    """Return the exit code that an error ends a command with."""
    if isinstance(error, _NOT_YET):
        return NOT_YET
    of_one_event = isinstance(error, EventUnreadable | ViewUnreadable)
    return WRONG if isinstance(error, _WRONG) and not of_one_event else FAILED


def fail(error: HeadwaterError) -> None:
    """Report an error in one line and end the process."""
    label = ERROR
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        label = f"\x1b[1;31m{ERROR}\x1b[0m"
    sys.stdout.flush()
    sys.stderr.write(f"{label}{error.message}\n")
    sys.stderr.flush()
    sys.exit(exit_code(error))
