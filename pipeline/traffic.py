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

    @property
    def num_steps(self) -> int:
        """Optimizer steps of one epoch; a last smaller batch counts."""
        return -(-self.num_train // self.batch_size)

    @property
    def num_eval_batches(self) -> int:
        """Batches of one evaluation."""
        return -(-self.num_test // self.eval_batch_size)

    def counts(self) -> list[int]:
        """Micro-batches of each step; a last batch smaller than that has one per sample."""
        last = self.num_train - (self.num_steps - 1) * self.batch_size
        return [self.microbatches] * (self.num_steps - 1) + [min(self.microbatches, last)]
