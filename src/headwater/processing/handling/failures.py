"""What a failure is: whose, whether trying again will help, and how it is told."""

import asyncio
import errno
import traceback

from headwater.errors import DeadlineExceeded, HeadwaterError, RemoteError, Unavailable

_AWAY = frozenset({408, 425, 429, 502, 503, 504})  # HTTP: not now, or nobody there
_NO_WAY = frozenset(
    {
        *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN),
        *(errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EPIPE, errno.ETIMEDOUT),
    }
)
_FRAMES_MAX = 30
_TRACEBACK_MAX = 8_000  # characters


def is_outage(error: BaseException) -> bool:
    """Whether something is merely away: no fault of the event, so trying again will help."""
    if isinstance(error, RemoteError):
        return error.remote_status in _AWAY
    if isinstance(error, HeadwaterError):
        return isinstance(error, Unavailable | DeadlineExceeded)
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and error.errno in _NO_WAY  # as aiohttp raises them


def is_of_callee(error: BaseException) -> bool:
    """Whether an error is that of the code that was called, not the end of the task that calls.

    Code may raise what ends tasks and programs: ``sys.exit()``, or the cancellation of something
    else that it waited for. That says nothing about who has called it.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or not task.cancelling()
    return not isinstance(error, GeneratorExit)


def code_of(error: BaseException) -> str:
    """Return the stable name of an error."""
    return error.code if isinstance(error, HeadwaterError) else type(error).__name__


def describe(error: BaseException) -> str:
    """Return an error for a person, with its type when it is none of ours; it can be stored."""
    ours = isinstance(error, HeadwaterError)
    return _storable(str(error) if ours else f"{type(error).__name__}: {error}")


def traceback_of(error: BaseException) -> str:
    """Return where an error was raised, as the interpreter shows it; long ones lose their begin."""
    text = "".join(traceback.format_exception(error, limit=-_FRAMES_MAX))
    return _storable(text[-_TRACEBACK_MAX:])


def _storable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()  # whatever a handler says in it
