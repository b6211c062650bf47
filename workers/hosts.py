"""Which stages share a host, by what their processes have said of themselves, and how a host is named to the user."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from pipeline.schedules.replicas import Replicas
from workers.host.identity import ProcessIdentity

__all__ = ["GONE", "StageHosts"]

GONE = "it is gone: its processes died, or it or the network between was lost."
"""What is said of a host of which nothing is left."""


@dataclass(frozen=True)
class StageHosts:
    """The hosts of a run's stages; where these have replicas, of its processes, numbered as in
    :class:`pipeline.schedules.replicas.Replicas`."""

    index: tuple[int, ...]
    """Of each stage's host, from 0 in the order of stages."""
    names: tuple[str, ...]
    """Of each host; they may repeat."""
    address: str = field(default="", compare=False)
    """Of rank 0's host, where other hosts reach it; empty where there are none."""

    @classmethod
    def of(cls, identities: Sequence[ProcessIdentity]) -> Self:
        """The hosts of processes, one for each stage: what shares process ids shares a host."""
        kernels = list(dict.fromkeys(identity.kernel for identity in identities))
        return cls(
            tuple(kernels.index(identity.kernel) for identity in identities),
            tuple(kernel.partition(" ")[0] for kernel in kernels),
        )

    @property
    def are_several(self) -> bool:
        """There is more than one host."""
        return len(self.names) > 1

    def stages_beside(self, stage: int) -> tuple[int, ...]:
        """All stages on the host of ``stage``, itself included."""
        return tuple(s for s, host in enumerate(self.index) if host == self.index[stage])

    def first_beside(self, stage: int) -> int:
        """The lowest stage on the host of ``stage``."""
        return self.stages_beside(stage)[0]

    def text(self, stage: int, replicas: Replicas | None = None) -> str:
        """``host node1 (stages 2, 3)``, of the host of ``stage``; where stages have replicas, of the host of that
        process, ``host node1 (stage 1/3, replica 1/2; stage 2/3)``."""
        beside, host = self.stages_beside(stage), f"host {self.names[self.index[stage]]}"
        if replicas is not None and not replicas.is_single:
            return f"{host} ({'; '.join(map(replicas.name, beside))})"
        return f"{host} (stage{'s' * (len(beside) > 1)} {', '.join(map(str, beside))})"
