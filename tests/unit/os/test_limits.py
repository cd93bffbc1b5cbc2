"""What is left of what the machine lends."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from headwater._os import limits
from headwater._os.limits import Shortage, shortages, spare_watchers

SHOW = """
import json, resource, sys
from headwater._os.limits import *
raise_descriptors()
print(json.dumps([*map(list, shortages([])), *map(list, spare_watchers())]))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def shown(soft: int, hard: int) -> tuple[dict[str, Shortage], int]:
    """Return what a process with these limits is short of, and its limit in the end."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    found, limit = done.stdout.splitlines()
    return {each[0]: Shortage(*each) for each in json.loads(found)}, int(limit)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    """What is allowed is used; if that is little, it is said, with actual, expected and remedy."""
    found, limit = shown(100, 500)
    assert limit == 500
    short = found["descriptors"]
    assert short.actual == "500 descriptors may be open"
    assert (short.expected, "ulimit -n" in short.remedy) == ("1024 or more", True)
    found, limit = shown(100, 4000)
    assert limit == 4000
    assert "descriptors" not in found


def test_inotify_is_short() -> None:
    """Whether files can be watched is found out before it is needed."""
    assert spare_watchers() == []
    found, _ = shown(5, 5)
    assert "max_user_instances" in found["inotify instances"].remedy


def test_descriptors_that_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the last descriptor is open it is said."""
    used = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(limits, "DESCRIPTORS_MIN", 0)
    monkeypatch.setattr(limits, "descriptor_limit", lambda: used + 1)
    (short,) = [each for each in shortages([]) if each.name == "descriptors"]
    assert f"of {used + 1} descriptors are open" in short.actual


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each disk is told once, also of a folder that is not there yet."""
    monkeypatch.setattr(limits, "_FREE_BYTES_MIN", 2**62)
    found = shortages([tmp_path / "a" / "b", tmp_path])
    (short,) = [each for each in found if each.name.startswith("disk")]
    assert short.name == f"disk of {tmp_path / 'a' / 'b'}"
    assert "MiB are free" in short.actual


def test_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Little memory is told: of the control group, less what is cached, and of the machine."""
    assert [each for each in shortages([]) if each.name == "memory"] == []
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**30 - 2**20}\n")
    (tmp_path / "memory.stat").write_text("anon 5\nfile 0\n")
    monkeypatch.setattr(limits, "_CGROUPS", tmp_path)
    (short,) = [each for each in shortages([]) if each.name == "memory"]
    assert short.actual == "1 MiB of memory of the control group are free"
    (tmp_path / "memory.stat").write_text(f"anon 5\nfile {2**29}\n")
    assert [each for each in shortages([]) if each.name == "memory"] == []
    monkeypatch.setattr(limits, "_MEMORY_BYTES_MIN", 2**60)
    assert [each for each in shortages([]) if each.name == "memory"]
