"""What a child of ``headwater up`` owes its supervisor: to report, and not to outlive it."""

import ctypes
import os
import signal
import sys
from typing import Any

import msgspec

SUPERVISOR = "HEADWATER_SUPERVISOR"
"""Environment variable of children: the process id of their supervisor."""

MARK = "\x1eheadwater "
"""Begins a line on standard output that is meant for the supervisor."""

_PR_SET_PDEATHSIG = 1


def supervised() -> bool:
    """Whether this process was started by ``headwater up``."""
    return SUPERVISOR in os.environ


def follow_supervisor() -> None:
    """Die when the supervisor dies, however that happens (Linux; elsewhere nothing is done)."""
    if not supervised() or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[SUPERVISOR]):  # it died before the kernel knew
        os._exit(1)


def report(**values: Any) -> None:
    """Tell the supervisor something; nothing is done without one."""
    if supervised():
        sys.stdout.write(f"{MARK}{msgspec.json.encode(values).decode()}\n")
        sys.stdout.flush()
