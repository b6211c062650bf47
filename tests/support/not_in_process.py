"""A transport whose declaration promises what its class does not keep."""

from workers.transport import Capabilities, Reach

CAPABILITIES = Capabilities(Reach.PROCESS)


class Absent:
    """No transport at all."""


def build(endpoint):
    return Absent()
