"""What a socket has not taken at once: a thread sends it while the stage goes on.

The kernel bounds what may be unread by its own measure, which for small messages is a few hundred of them whatever the
depth of the edge. Two that send to each other, and read only then, would wait for each other.
"""

import socket
import threading

from workers.transport import Edge
from workers.transports._mailbox import Mailbox, MailboxFailed

__all__ = ["Backlog"]

_JOIN_S = 1.0
"""For a thread whose connection is closed already: it ends by itself, at once."""


class Backlog:
    """Behind the sending end of ``edge``. Whoever sends by the socket itself asks before that nothing is left here.

    Args:
        edge: messages are never more than it has room for.
        sock: connected and blocking, without a limit on how long a send may take.
    """

    def __init__(self, edge: Edge, sock: socket.socket) -> None:
        self._name, self._sock = f"edge {edge.src}->{edge.dst}", sock
        self._rest: Mailbox[bytes | memoryview] = Mailbox(edge.depth + 1)
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._rest)

    def check(self) -> None:
        """Raises ConnectionResetError where something could not be sent."""
        if self._rest.failure is not None:
            raise ConnectionResetError("what was left of a message could not be sent") from self._rest.failure

    def put(self, rest: bytes | memoryview) -> None:
        """Leaves ``rest``, a message or the end of one, to the thread; raises as :meth:`check`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._send, name=self._name, daemon=True)
            self._thread.start()
        try:
            self._rest.put(rest, len(rest))
        except MailboxFailed as error:
            raise ConnectionResetError("what was left of a message could not be sent") from error

    def _send(self) -> None:
        """Body of the thread."""
        try:
            while True:
                self._sock.sendall(self._rest.head())
                self._rest.drop()
        except (OSError, MailboxFailed) as error:
            self._rest.fail(error)

    def close(self) -> None:
        """Ends the thread, under whatever it sends; the socket is of no use afterwards and is still to be closed."""
        self._rest.fail(ConnectionAbortedError("the transport was closed"))
        if self._thread is not None:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other end has closed it
            self._thread.join(_JOIN_S)
