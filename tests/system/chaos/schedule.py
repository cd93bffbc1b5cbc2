"""What fails when: drawn from a seed."""

import random
from typing import Literal

import msgspec

Kind = Literal[
    "kill", "end", "pause", "restart all", "clock", "disk full",
    "database killed", "database stopped", "commits cut", "answers held", "requests held",
    "broker killed", "broker ended", "broker stopped", "bus cut", "bus held",
]  # fmt: skip

_EVERYWHERE: dict[Kind, int] = {
    "kill": 6, "end": 3, "pause": 5, "restart all": 2, "clock": 3, "disk full": 2,
}  # fmt: skip
_POSTGRES: dict[Kind, int] = {
    "database killed": 2, "database stopped": 1, "commits cut": 4, "answers held": 2,
    "requests held": 1,
}  # fmt: skip
_BROKER: dict[Kind, int] = {
    "broker killed": 2, "broker ended": 1, "broker stopped": 3, "bus cut": 4, "bus held": 2,
}  # fmt: skip
_SKEWS_S = (-10.0, 10.0, -3600.0, 3600.0, 365 * 86400.0)
_PAUSE_S = (0.3, 2.5)  # between two faults


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong.

    Attributes:
        at_s: when, seconds after the clients have begun.
        kind: what.
        lasts_s: for how long.
        chance: a number from 0 to 1 that decides whom it strikes.
        seed: for what is drawn while it lasts.
        skew_s: by how much the clock is wrong.
    """

    at_s: float
    kind: Kind
    lasts_s: float
    chance: float
    seed: int
    skew_s: float = 0.0

    def __str__(self) -> str:
        """What is printed of it."""
        skew = f" by {self.skew_s:+g} s" if self.skew_s else ""
        return f"{self.at_s:5.1f} s  {self.kind}{skew} for {self.lasts_s:.1f} s"


def schedule(seed: int, *, seconds: float, backend: str, bus: str = "") -> list[Fault]:
    """Return the faults of a seed; several may be at work at the same time."""
    draw = random.Random(f"{backend} {bus} {seed}" if bus else f"{backend} {seed}")
    weights = _EVERYWHERE | (_POSTGRES if backend == "postgres" else {}) | (_BROKER if bus else {})
    found: list[Fault] = []
    at_s = draw.uniform(*_PAUSE_S)
    while at_s < seconds:
        (kind,) = draw.choices(list(weights), list(weights.values()))
        lasts_s = draw.uniform(0.2, min(9.0 if kind in {"pause", "clock"} else 4.0, seconds))
        fault = Fault(at_s, kind, lasts_s, draw.random(), draw.getrandbits(32))
        if kind == "clock":
            fault = msgspec.structs.replace(fault, skew_s=draw.choice(_SKEWS_S))
        found.append(fault)
        at_s += draw.uniform(*_PAUSE_S)
    return found
