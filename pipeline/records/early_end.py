"""A run's end in order before its schedule is over, because somebody who watches it has asked for that."""

from dataclasses import dataclass, replace

from pipeline.schedules.plan import Plan

__all__ = ["EarlyEnd"]

_NOTICE_S = 1.0


@dataclass
class EarlyEnd:
    """Somebody may ask for the end, from another thread; plans are then published as late as no stage has to wait.

    Args:
        ahead: epochs that must be planned beyond those that every stage has finished, for no stage to wait.
    """

    ahead: int
    reason: str | None = None
    """Why the run is to end; None as long as it goes on."""
    is_taken: bool = False
    """The run ends for that reason, and not because its schedule is over."""

    def epochs_ahead(self, epoch_s: float | None) -> int:
        """Epochs to be planned beyond the finished ones: a second's worth more, since news take a moment.

        Args:
            epoch_s: what an epoch takes; None as long as nobody knows.
        """
        return self.ahead + (int(_NOTICE_S / epoch_s) if epoch_s else 0)

    def applied(self, plan: Plan | None, before: Plan | None) -> Plan | None:
        """The plan that follows ``before``: None once the end was asked for and ``before`` is evaluated.

        Args:
            plan: what the schedule says.
            before: the newest one that is published; None if there is none.
        """
        if plan is None or before is None or self.reason is None:
            return plan
        if not before.evaluate:  # the figures of a run are those of its last weights
            return replace(plan, evaluate=True)
        self.is_taken = True
        return None
