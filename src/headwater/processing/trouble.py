"""What happens when something other than an event fails: back-off, told once."""

import logging

from headwater.errors import ConfigurationError, Unavailable
from headwater.processing.failures import describe
from headwater.processing.settings import ProcessorSettings

_log = logging.getLogger(__name__)


class Trouble:
    """A failure of something other than an event: told once, and waited for with back-off."""

    def __init__(self, name: str, settings: ProcessorSettings) -> None:
        """All is well."""
        self._name = name
        self._settings = settings
        self._tries = 0
        self.failure = ""

    def met(self, error: Exception) -> float:
        """Note a failure; return how long to pause, seconds."""
        self._tries += 1
        self.failure = describe(error)
        level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
        expected = isinstance(error, Unavailable | ConfigurationError)
        if self._tries == 1 or not expected:
            _log.log(
                level, "%s: %s; going on as soon as possible", self._name, self.failure,
                exc_info=None if expected else error,
            )  # fmt: skip
        return self._settings.back_off(self._tries)

    def over(self) -> None:
        """Note that it works again."""
        if self._tries:
            _log.info("%s: works again", self._name)
        self._tries, self.failure = 0, ""
