"""How the data is cut into batches and micro-batches, known to every stage."""

from dataclasses import dataclass

__all__ = ["Traffic"]


@dataclass(frozen=True)
class Traffic:
    """Sizes of the two splits in batches and samples, known to every stage."""

    num_train: int
    num_test: int
    batch_size: int
    eval_batch_size: int
    microbatches: int
    in_flight: int
    one_f_one_b: bool = False
    eval_passes: int = 1
    pipedream: bool = False
    """Whether what is in flight depends on the stage, see :meth:`in_flight_at`; ``in_flight`` is then not asked."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps of one epoch; a last smaller batch counts."""
        return -(-self.num_train // self.batch_size)

    @property
    def num_eval_batches(self) -> int:
        """Batches of one evaluation."""
        return -(-self.num_test // self.eval_batch_size)

    def in_flight_at(self, stage_index: int, num_stages: int) -> int:
        """Batches that a stage may have sent on and not yet learned from.

        The same on every stage, or as many as there are stages from it to the last (PipeDream). More than an epoch has
        is no more: everything under way is learned from before an epoch ends.
        """
        most = num_stages - stage_index if self.pipedream else self.in_flight
        return min(most, self.num_steps)

    def counts(self) -> list[int]:
        """Micro-batches of each step; a last batch smaller than that has one per sample."""
        last = self.num_train - (self.num_steps - 1) * self.batch_size
        return [self.microbatches] * (self.num_steps - 1) + [min(self.microbatches, last)]
