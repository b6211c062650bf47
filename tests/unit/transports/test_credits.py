"""Credits: for a sender that is gone, what it has sent can still be read; for a slow receiver, each has its time."""

import errno
import socket
import struct

import pytest

from pipeline.errors import TransportTimeout
from workers.transport import Edge
from workers.transports._sockets.credits import CreditsGiven, CreditsTaken


class Refusing:
    """A socket that takes nothing."""

    def __init__(self, error):
        self.error = error

    def send(self, data, flags=0):
        raise self.error

    def setsockopt(self, *_):
        pass


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EPIPE, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ETIMEDOUT])
def test_a_credit_that_cannot_be_given_is_owed(number):
    end = CreditsGiven(Edge(0, 1, 2, 64), Refusing(OSError(number, "refused")), ())
    end._give_credit()
    end._give_credit()
    assert end._owed == 2


class Slow:
    """A socket at whose other end a message is taken in every wait but the last ones; notes how long each may be."""

    def __init__(self, taken):
        self.taken, self.allowed = taken, []

    def setsockopt(self, level, option, value):
        seconds, micros = struct.unpack("ll", value)
        self.allowed.append(seconds + micros / 1e6)

    def recv(self, size, flags=0):
        if not self.taken:
            raise BlockingIOError
        self.taken -= 1
        return b"\0"


def test_each_message_may_take_the_whole_time_to_be_taken():
    """The limit is of one wait, so the end of a run may take longer than that where queues are full."""
    end = CreditsTaken(Edge(0, 1, 8, 64), Slow(taken=8), (socket.SO_RCVTIMEO,), 8)
    end._free = 0
    end.drain(2.5)
    assert end._free == 8 and end._sock.allowed == [2.5]
    end._free, end._sock = 0, Slow(taken=3)
    with pytest.raises(TransportTimeout, match="stage 1 did not take all that was sent within 2.5 s"):
        end.drain(2.5)
