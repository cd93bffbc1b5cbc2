"""Joining what is written to a connection."""

import asyncio

from headwater._http.protocol import JoiningTransport


class Wire(asyncio.Transport):
    """Notes what reaches the system."""

    def __init__(self) -> None:
        super().__init__({"peername": "me"})
        self.done: list[bytes | str] = []

    def write(self, data) -> None:
        self.done.append(bytes(data))

    def close(self) -> None:
        self.done.append("closed")


async def test_joined_until_flushed():
    """What is written in one turn goes out at once, in order, and only once."""
    wire = Wire()
    joining = JoiningTransport(wire, asyncio.get_running_loop())
    joining.write(b"head")
    joining.write(b"body")
    assert wire.done == []
    joining.flush()
    joining.flush()
    await asyncio.sleep(0)
    assert wire.done == [b"headbody"]
    assert joining.get_extra_info("peername") == "me"


async def test_leaves_in_the_next_turn():
    """Without a flush it leaves in the next turn, so that streams are not held up."""
    wire = Wire()
    joining = JoiningTransport(wire, asyncio.get_running_loop())
    joining.write(b"a")
    await asyncio.sleep(0)
    assert wire.done == [b"a"]
    joining.write(b"b")
    await asyncio.sleep(0)
    assert wire.done == [b"a", b"b"]


async def test_what_is_held_is_bounded():
    """More than 64 KiB is not held back."""
    wire = Wire()
    joining = JoiningTransport(wire, asyncio.get_running_loop())
    joining.write(b"x" * 40_000)
    joining.write(b"x" * 40_000)
    assert [len(data) for data in wire.done] == [80_000]


async def test_close_writes_first():
    """A close comes after all that was written."""
    wire = Wire()
    joining = JoiningTransport(wire, asyncio.get_running_loop())
    joining.write(b"bye")
    joining.close()
    assert wire.done == [b"bye", "closed"]
