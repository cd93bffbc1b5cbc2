"""How far the machine's clock is off those of the stores, which count."""

import structlog

from headwater.messages import now_us

OFF_S_MAX = 5.0
"""Beyond this a clock is wrong, not late."""

_log = structlog.get_logger("headwater.sql")
_off_s: dict[str, float] = {}


def compare(store: str, store_us: int, *, began_us: int) -> None:
    """Note what a store's clock said between ``began_us`` and now, by the machine's clock."""
    ended_us = now_us()
    off_s = (max(0, began_us - store_us) or min(0, ended_us - store_us)) / 1_000_000
    before = abs(_off_s.get(store, 0.0)) > OFF_S_MAX
    _off_s[store] = off_s
    if before != (abs(off_s) > OFF_S_MAX):
        if before:
            _log.info("this machine's clock is right", store=store)
        else:
            _log.warning("this machine's clock is off", store=store, reason=told(store, off_s))


def ahead_s() -> dict[str, float]:
    """Return for each store of this process how far the machine's clock is ahead of the store's."""
    return dict(_off_s)


def told(store: str, off_s: float) -> str:
    """Return what a person should know of a clock that is off."""
    side = "ahead of" if off_s > 0 else "behind"
    return (
        f"{store}: this machine's clock is {abs(off_s):.1f} s {side} the store's, which counts for "
        "events, leases and deadlines: set one of them right"
    )


def troubles() -> dict[str, str]:
    """Return for each store that the machine's clock is off what a person should know."""
    return {name: told(name, off) for name, off in _off_s.items() if abs(off) > OFF_S_MAX}


__all__ = ["OFF_S_MAX", "ahead_s", "compare", "troubles"]
