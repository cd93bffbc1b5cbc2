"""Ports for servers that are started later, or that stop and come back."""

import socket


class HeldPort:
    """A port of this machine that is given to nobody else, and where nobody listens yet.

    A server that sets ``SO_REUSEADDR``, as they all do, can listen there, stop, and listen again;
    while none does, connections are refused. A port that was only found free is not enough: the
    system may give it to the next one who asks for any, in another test process.
    """

    def __init__(self) -> None:
        """Let the system choose it."""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Leave it to others. Twice is fine."""
        self._socket.close()

    def __enter__(self) -> int:
        """Return the number."""
        return self.number

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.release()
