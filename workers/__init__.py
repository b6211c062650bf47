"""Where it runs: processes, transports, supervision. Imports ``pipeline``, never the other way.

To read it in order: ``run`` (from a config to ``result.json``), ``placement`` (which stage goes where), ``worker``
(the process of one stage), ``transport`` (the contract of what lies between two stages), ``coordinator`` (hands out
plans, collects reports, notices the dead).

The names below are imported when they are first asked for: importing this package leaves torch out.
"""

from typing import TYPE_CHECKING

from pipeline.lazy import lazy_names

if TYPE_CHECKING:
    from pipeline.errors import TransportTimeout, WorkerFailed
    from workers.coordinator import Coordinator
    from workers.placement import Host, Placement, place
    from workers.run import train
    from workers.transport import Edge, Endpoint, Transport

__all__ = [
    "Coordinator", "Edge", "Endpoint", "Host", "Placement", "Transport", "TransportTimeout", "WorkerFailed", "place",
    "train",
]  # fmt: skip

__getattr__, __dir__ = lazy_names(__name__, {
    "pipeline.errors": ("TransportTimeout", "WorkerFailed"),
    "workers.coordinator": ("Coordinator",),
    "workers.placement": ("Host", "Placement", "place"),
    "workers.run": ("train",),
    "workers.transport": ("Edge", "Endpoint", "Transport"),
})
