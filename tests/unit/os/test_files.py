"""Files that are replaced as a whole, and files that one process owns."""

import errno
import multiprocessing
import stat
from pathlib import Path

import pytest

from headwater._os.files import owned, write_atomically


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """The content is the new one, nothing else is left, and equal content is not written again."""
    file = tmp_path / "state.json"
    assert write_atomically(file, b"one")
    before = file.stat().st_ino
    assert not write_atomically(file, b"one")
    assert file.stat().st_ino == before
    assert write_atomically(file, b"two", durable=False)
    assert file.read_bytes() == b"two"
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_who_reads_it_sees_one_or_the_other(tmp_path: Path) -> None:
    """A reader that has it open keeps the old content: the file is another one, not changed."""
    file = tmp_path / "state.json"
    write_atomically(file, b"one")
    with file.open("rb") as reader:
        write_atomically(file, b"two")
        assert reader.read() == b"one"


def test_a_private_file(tmp_path: Path) -> None:
    """Nobody else can read it, from the first moment on."""
    file = tmp_path / "secret.json"
    write_atomically(file, b"one", private=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the rename fails the old content is there, and nothing is left over."""
    file = tmp_path / "state.json"
    write_atomically(file, b"one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(file, b"two")
    assert file.read_bytes() == b"one"
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def _try(path: Path, told: "multiprocessing.SimpleQueue[str]") -> None:
    try:
        with owned(path):
            told.put("owned")
    except BlockingIOError as error:
        told.put(f"refused {error.filename}")


def test_a_file_is_owned_by_one_process(tmp_path: Path) -> None:
    """Another process is refused while one owns it, and gets it afterwards."""
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()

    def ask() -> str:
        other = context.Process(target=_try, args=(tmp_path / "lock", told))
        other.start()
        answer = told.get()
        other.join()
        return answer

    with owned(tmp_path / "lock"):
        assert ask() == f"refused {tmp_path / 'lock'}"
    assert ask() == "owned"
