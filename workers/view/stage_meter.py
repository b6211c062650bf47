"""Newest report and speed of one stage, for the live view."""

from pipeline.records.reports import StageProgress

__all__ = ["StageMeter"]

WINDOW_S = 2.0
"""Seconds over which the rate is taken: reports come four times a second, and a single step may be slow."""


class StageMeter:
    """One stage's newest report and its samples per second.

    One thread writes and another reads, without a lock: what is read in one go is one attribute.
    """

    def __init__(self) -> None:
        self.steps_done = 0
        """Optimizer steps since the run's first."""
        self.loss: float | None = None
        self.fill: int | None = None
        """Messages waiting in front of the stage."""
        self._samples = 0
        self._points: tuple[tuple[float, int], ...] = ()

    @property
    def is_resting(self) -> bool:
        """Whether the stage rests, so that no rate is taken."""
        return not self._points

    def begin(self, now: float) -> None:
        """Begin to take the rate at ``now``, in seconds."""
        self._points = ((now, self._samples),)

    def rest(self) -> None:
        """Take no rate until :meth:`begin`: no batch passes the stage."""
        self._points = ()
        self.loss = self.fill = None

    def take(self, body: StageProgress, now: float) -> None:
        """Note a report that came at ``now``, see :meth:`pipeline.records.view.View.progress`."""
        self.steps_done = body["step"] + 1
        self.loss, self.fill, self._samples = body["loss"], body["fill"], body["samples"]
        points = (*self._points, (now, self._samples))
        # One point from before the window stays, so that the rate never rests on less than the window.
        first = max((i for i, (then, _) in enumerate(points[:-1]) if now - then >= WINDOW_S), default=0)
        self._points = points[first:]

    def finish(self, steps: int) -> None:
        """Note that an epoch has ended after ``steps`` steps of the run; the next one may have begun."""
        self.steps_done = max(self.steps_done, steps)

    def samples_per_s(self, now: float) -> float | None:
        """Samples per second over the window, falling while the stage is silent; None before two reports."""
        points = self._points
        if len(points) < 2:
            return None
        (start, before), (end, after) = points[0], points[-1]
        usual = (end - start) / (len(points) - 1)
        if now - end > max(WINDOW_S, 2 * usual):
            end = now
        return (after - before) / (end - start) if end > start else None
