"""Which of the stages' findings came first, decided when no earlier one can come any more.

Stages run at their own pace, and find a nan when they look. So that the block and the step named are the same
wherever the blocks are, a finding waits until every stage has looked at everything up to its step.
"""

from pipeline.records.reports import NonFinite

__all__ = ["FirstBad", "order"]

Moment = tuple[int, int]
"""A step, and 0 for its losses or 1 for the weights after it."""


class FirstBad:
    """Collects what stages report about numbers that are not finite.

    Args:
        num_stages: that report.
    """

    def __init__(self, num_stages: int) -> None:
        self._checked: list[Moment] = [(-1, 0)] * num_stages
        self._found: list[NonFinite] = []

    def hear(self, stage: int, checked: int, found: NonFinite | None, *, whole: bool) -> NonFinite | None:
        """A stage has looked.

        Args:
            stage: which.
            checked: the last step that it has looked at all losses of.
            found: the first that it found in all of the run.
            whole: it has looked at the weights after that step, too.

        Returns:
            The first finding of all stages, once that is known.
        """
        self._checked[stage] = max(self._checked[stage], (checked, int(whole)))
        if found is not None and found not in self._found:
            self._found.append(found)
        if not self._found:
            return None
        first = min(self._found, key=order)
        return first if min(self._checked) >= order(first)[:2] else None


def order(found: NonFinite) -> tuple[int, int, int]:
    """Findings in the order in which they came about: by their moment, then by block."""
    return found["step"], int(found["what"] != "loss"), found["block"]
