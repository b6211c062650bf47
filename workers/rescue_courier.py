"""A stage on another host that shares the run's folder with rank 0: what the folder refuses comes together, too."""

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.records.reports import StageResult
from workers.courier import Courier

__all__ = ["RescueCourier"]


class RescueCourier(Courier):
    """Brings nothing but final weights that are in the stage's own second place, to that of the run on rank 0's host:
    everything else is where it belongs already.

    Args:
        connection: to rank 0's :class:`workers.freight.FreightDesk`; closed at the end.
        root: the stage's second place, on this host.
    """

    places = (1,)

    def post(self, *paths: Path) -> None:
        """Nothing: the files are in the run's folder."""

    def bring_snapshot(self, folder: Path, files: Iterable[tuple[int, int]]) -> str | None:
        """Nothing: the snapshot is in the run's folder."""
        return None

    def bring_result(self, result: StageResult, after_each: Callable[[], object]) -> None:
        """As :meth:`Courier.bring_result`, for weights that the run's folder has not taken."""
        if Path(result["folder"]).is_relative_to(self._root):
            super().bring_result(result, after_each)
