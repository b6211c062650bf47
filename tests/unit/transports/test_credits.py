"""Credits for a sender that is gone: what it has sent can still be read."""

import errno

import pytest

from workers.transport import Edge
from workers.transports._sockets.credits import CreditsGiven


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
