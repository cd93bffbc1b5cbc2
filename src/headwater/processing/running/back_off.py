"""What happens when something other than an event fails: back-off, told once."""

import time
from typing import Any

import structlog

from headwater.errors import ConfigurationError, StoreError, Unavailable
from headwater.processing.handling.failures import describe
from headwater.processing.settings import ProcessorSettings

_log = structlog.get_logger("headwater.processing")


class BackOff:
    """A failure of something other than an event: told once, and waited for with back-off."""

    def __init__(self, name: str, settings: ProcessorSettings) -> None:
        """All is well."""
        self._name = name
        self._settings = settings
        self._tries = 0
        self._look_at = 0.0  # monotonic seconds
        self.failure = ""

    def met(self, error: Exception) -> float:
        """Note a failure; return how long to pause, seconds."""
        self._tries += 1
        self.failure = describe(error)
        tell = _log.warning if isinstance(error, Unavailable) else _log.error
        expected = isinstance(error, Unavailable | ConfigurationError | StoreError)
        if self._tries == 1 or not expected:
            more: dict[str, Any] = {} if expected else {"exc_info": error}
            tell(
                "cannot go on, and does as soon as possible",
                processor=self._name,
                reason=self.failure,
                **more,
            )
        pause = self._settings.back_off(self._tries)
        self._look_at = time.monotonic() + 2 * pause
        return pause

    @property
    def look_s(self) -> float | None:
        """In how many seconds it is time to see whether it works again; None: all is well.

        Not at once: what was begun anew after the pause gets as long again to fail.
        """
        return max(0.0, self._look_at - time.monotonic()) if self.failure else None

    def over(self) -> None:
        """Note that it works again."""
        if self._tries:
            _log.info("works again", processor=self._name)
        self._tries, self.failure = 0, ""
