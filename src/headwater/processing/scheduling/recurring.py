"""When something recurs: cron expressions with a time zone."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from headwater.errors import DeclarationError
from headwater.messages import Command

Missed = Literal["latest", "skip"]
_LATE_S = 60.0  # a tick that is later than this was missed
_NAME_MAX = 100  # characters


class Recurring:
    """A command that is sent at each tick of a cron expression.

    Attributes:
        name: tells it apart in its service; with the tick it makes the idempotency key.
        command: makes the command of a tick, which comes with its zone.
        missed: what becomes of ticks that nobody was there for: the latest one is made up for, or
            all are skipped.
        text: expression and zone.
    """

    def __init__(
        self,
        cron: str,
        command: Callable[[datetime], Command],
        *,
        name: str,
        zone: str,
        missed: Missed = "latest",
    ) -> None:
        """Declare it.

        Raises:
            DeclarationError: the expression, the zone, the name or the policy is none.
        """
        subject = f"every({cron!r}) of {name!r}"
        if not name or len(name) > _NAME_MAX or not all(c.isalnum() or c in "-_" for c in name):
            reason = f"a name has 1 to {_NAME_MAX} letters, digits, - and _: give it name=..."
            raise DeclarationError(subject=subject, reason=reason)
        if missed not in {"latest", "skip"}:
            reason = f'missed must be "latest" or "skip", got {missed!r}'
            raise DeclarationError(subject=subject, reason=reason)
        try:
            self._zone = ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            reason = f'zone {zone!r} is none that is known here: say "Europe/Berlin" or "UTC"'
            raise DeclarationError(subject=subject, reason=reason) from error
        self._cron = cron
        try:
            _check(cron)
        except (CronSimError, StopIteration) as error:
            reason = (
                f"{error or 'it never comes'}: say minute, hour, day of month, month and day of "
                'week, as in "0 6 * * *"'
            )
            raise DeclarationError(subject=subject, reason=reason) from error
        self.name = name
        self.command = command
        self.missed: Missed = missed
        self.text = f"{cron} {zone}"

    def time(self, tick_s: float) -> datetime:
        """Return a tick in the declared zone."""
        return datetime.fromtimestamp(tick_s, UTC).astimezone(self._zone)

    def after(self, time_s: float) -> float:
        """Return the first tick after a time; both in seconds since 1970 UTC."""
        return next(CronSim(self._cron, self.time(time_s))).timestamp()

    def latest(self, due_s: float, now_s: float) -> float:
        """Return the last tick up to now, of those from ``due_s`` on, which is one that has come.

        Searched backwards, so that years of missed ticks cost nothing.
        """
        until = datetime.fromtimestamp(int(now_s) + 1, UTC).astimezone(self._zone)
        tick_s = due_s
        with contextlib.suppress(StopIteration):
            tick_s = max(due_s, next(CronSim(self._cron, until, reverse=True)).timestamp())
        if tick_s > now_s:  # the clocks were set back meanwhile, and it is counted once
            tick_s = due_s
        while (following := self.after(tick_s)) <= now_s:
            tick_s = following
        return tick_s

    def made_up(self, due_s: float, now_s: float) -> float | None:
        """Return the tick to send a command for, now that one is due; None: it is skipped."""
        tick_s = self.latest(due_s, now_s)
        return None if self.missed == "skip" and now_s - tick_s > _LATE_S else tick_s


def _check(cron: str) -> None:
    if len(cron.split()) != 5:  # with seconds it would go by other rules where clocks jump
        raise CronSimError("Wrong number of fields")
    next(CronSim(cron, datetime.now(UTC)))


__all__ = ["Missed", "Recurring"]
