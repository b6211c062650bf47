"""Shared memory whose sends and receives are late at random, by dotted name: ``tests.support.slow_shared_memory``."""

import random
import time

from workers.transports import shared_memory

CAPABILITIES = shared_memory.CAPABILITIES


def build(endpoint):
    """The transport, with delays in every call; the delays differ from run to run on purpose."""
    transport = shared_memory.build(endpoint)
    late = random.Random()
    for name in ("send", "recv"):
        setattr(transport, name, _delayed(getattr(transport, name), late))
    return transport


def _delayed(call, late):
    """``call``, after up to 4 ms every third time or so."""

    def delayed(*args):
        if late.random() < 0.3:
            time.sleep(late.random() * 0.004)
        return call(*args)

    return delayed
