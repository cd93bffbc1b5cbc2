"""Descriptors, disks, memory and inotify: looked at before they strike, and said with a remedy."""

import ctypes
import errno
import os
import resource
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MEBIBYTE = 2**20
DESCRIPTORS_MIN = 1024
"""With fewer a busy instance may run out: each connection, file and database takes some."""

_DESCRIPTORS_MAX = 2**20  # more would only make tables larger
_USED_MAX = 0.8
_FREE_BYTES_MIN = 256 * MEBIBYTE
_FREE_FILES_MIN = 1000
_MEMORY_BYTES_MIN = 64 * MEBIBYTE
_WATCHERS_MIN = 4
_CGROUPS = Path("/sys/fs/cgroup")
_IN_NONBLOCK = os.O_NONBLOCK


class Shortage(NamedTuple):
    """Something of which there is little left."""

    name: str
    actual: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        """Return it for a person."""
        return f"{self.actual}, expected {self.expected}: {self.remedy}"


def descriptor_limit() -> int:
    """Return how many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else soft


def open_descriptors() -> int:
    """Return how many descriptors are open; 0 where that cannot be told, as without one left."""
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # many names, no paths
    except OSError as error:
        return descriptor_limit() if error.errno in {errno.EMFILE, errno.ENFILE} else 0


def raise_descriptors() -> None:
    """Let this process, and those it starts, have as many descriptors open as they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def shortages(folders: Iterable[Path]) -> list[Shortage]:
    """Return what there is little left of now: descriptors, room in folders, memory."""
    return [*_descriptors(), *_disks(folders), *_memory()]


def _descriptors() -> Iterator[Shortage]:
    limit, used = descriptor_limit(), open_descriptors()
    if limit < DESCRIPTORS_MIN:
        yield Shortage(
            "descriptors",
            f"{limit} descriptors may be open",
            f"{DESCRIPTORS_MIN} or more",
            "raise `ulimit -n` (LimitNOFILE= of a unit, `--ulimit nofile` of a container)",
        )
    elif used > limit * _USED_MAX:
        yield Shortage(
            "descriptors",
            f"{used} of {limit} descriptors are open",
            f"at most {_USED_MAX:.0%}",
            "raise `ulimit -n`, or run more instances",
        )


def _disks(folders: Iterable[Path]) -> Iterator[Shortage]:
    seen: set[int] = set()
    for folder in folders:
        try:
            place = next(each for each in (folder, *folder.absolute().parents) if each.exists())
            device = place.stat().st_dev
            free = shutil.disk_usage(place).free
            files = os.statvfs(place)
        except OSError:
            continue  # what uses it says more
        if device in seen:
            continue
        seen.add(device)
        if free < _FREE_BYTES_MIN:
            yield Shortage(
                f"disk of {folder}",
                f"{free // MEBIBYTE} MiB are free",
                f"{_FREE_BYTES_MIN // MEBIBYTE} MiB or more",
                "free some, or move the data: nothing is stored on a full disk",
            )
        elif files.f_files and files.f_favail < _FREE_FILES_MIN:
            yield Shortage(
                f"disk of {folder}",
                f"{files.f_favail} files can be made",
                f"{_FREE_FILES_MIN} or more",
                "remove some, or move the data",
            )


def _memory() -> Iterator[Shortage]:
    for free, what, remedy in (
        (_free_in_group(), "of the control group", "raise its limit, or run less in it"),
        (_free_in_machine(), "of the machine", "run less on it"),
    ):
        if free is not None and free < _MEMORY_BYTES_MIN:
            actual = f"{max(0, free) // MEBIBYTE} MiB of memory {what} are free"
            expected = f"{_MEMORY_BYTES_MIN // MEBIBYTE} MiB or more"
            yield Shortage("memory", actual, expected, remedy)
            return


def _free_in_machine() -> int | None:
    return _numbers(Path("/proc/meminfo"), unit=1024).get("MemAvailable:")


def _free_in_group() -> int | None:
    """Return how much a control group may still take; what is cached of files can be given up.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, section "Memory Interface Files".
    """
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="ascii").partition("0::/")[2].strip()
    except (OSError, UnicodeDecodeError):
        return None
    for folder in (_CGROUPS / own, _CGROUPS):
        try:
            most = (folder / "memory.max").read_text(encoding="ascii").strip()
            used = int((folder / "memory.current").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if most != "max":
            return int(most) - used + _numbers(folder / "memory.stat").get("file", 0)
    return None


def _numbers(file: Path, *, unit: int = 1) -> dict[str, int]:
    """Return the numbers of a file of the kernel by the word before each."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
        return {words[0]: int(words[1]) * unit for line in lines if len(words := line.split()) > 1}
    except (OSError, ValueError):
        return {}


def spare_watchers() -> list[Shortage]:
    """Return whether inotify is short, which a program needs to see that files change (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        return []
    made: list[int] = []
    try:
        for _ in range(_WATCHERS_MIN):
            descriptor = libc.inotify_init1(_IN_NONBLOCK)
            if descriptor < 0:
                return [_instances(len(made))] if ctypes.get_errno() == errno.EMFILE else []
            made.append(descriptor)
        watched = libc.inotify_add_watch(made[0], b"/", 0x2)  # IN_MODIFY
        if watched < 0 and ctypes.get_errno() == errno.ENOSPC:
            return [_watches()]
    finally:
        for descriptor in made:
            os.close(descriptor)
    return []


def _instances(spare: int) -> Shortage:
    return Shortage(
        "inotify instances",
        f"{spare} more can be made",
        f"{_WATCHERS_MIN} or more",
        "raise fs.inotify.max_user_instances with sysctl (or `ulimit -n`)",
    )


def _watches() -> Shortage:
    return Shortage(
        "inotify watches", "no more can be made", "some", "raise fs.inotify.max_user_watches"
    )


__all__ = [
    "DESCRIPTORS_MIN",
    "Shortage",
    "descriptor_limit",
    "open_descriptors",
    "raise_descriptors",
    "shortages",
    "spare_watchers",
]
