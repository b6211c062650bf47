"""Sentences about a run, the same for a terminal and for a log file."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config.blocks import names_of
from pipeline.records.number_text import duration, grouped
from pipeline.records.reports import BlockScores
from pipeline.resolve import RunSpec
from pipeline.schedules.cuts import Cut
from pipeline.schedules.plan import Plan
from workers.placement import Placement
from workers.view.score import Score, loss_text

__all__ = ["RunText", "block_range", "gate_range", "gate_text", "loss_text", "plural"]


class RunText:
    """Sentences about what runs where, how each epoch went, and how the run ended.

    Args:
        resolved: the run.
        placement: where it runs.
        out: the run's folder.
        clock: seconds from any origin.
        begins: where a run that is taken up goes on; None of a new one.
    """

    def __init__(
        self, resolved: RunSpec, placement: Placement, out: Path, clock: Callable[[], float] = time.perf_counter,
        begins: Cut | None = None,
    ) -> None:  # fmt: skip
        self._begins = begins
        self.clock = clock
        self._resolved = resolved
        self._placement = placement
        self._out = out
        self._test_score = Score(resolved.data.task.headline)
        is_held_out = resolved.batching.num_validation > 0
        self.score = Score(resolved.data.task.headline, "validation") if is_held_out else self._test_score
        """Of what is scored after epochs."""
        self._epochs = resolved.config.train.epochs
        self._phased = resolved.schedule().depends_on_results
        self._since = clock()

    def headline(self) -> str:
        """First line: what runs where, and the predicted speed."""
        config, placement = self._resolved.config, self._placement
        threads = plural(placement.threads, "thread") + (" each" if len(placement.devices) > 1 else "")
        transport = [placement.transport] if len(placement.devices) > 1 else []
        epochs = f"{plural(self._epochs, 'epoch')} of {plural(self._resolved.batching.num_steps, 'step')}"
        return ", ".join([
            *(["EMULATED COMPUTE, NOTHING IS LEARNED"] if config.chaos.emulates else []),
            f"{names_of(config.rule)} on {config.dataset.name}",
            f"{config.model.name} of {plural(self._resolved.num_blocks, 'block')}",
            f"{config.schedule.mode} mode", self._stages(), threads, *transport,
            f"at most {epochs} per block" if self._phased else epochs, *self._taken_up(),
            *self._predicted(),
        ])  # fmt: skip

    def _taken_up(self) -> list[str]:
        """``goes on at epoch 3, step 20``: as people count epochs, behind so many steps of it."""
        if self._begins is None:
            return []
        return [f"goes on at epoch {self._begins.epoch + 1}, step {self._begins.step}"]

    def _predicted(self) -> list[str]:
        """``predicted: 12.3 | 11.9 ms per batch, 10 400 samples/s``: each stage's own time, and the run's rate; and how
        old and how disturbed the measurements are."""
        predicted = self._placement.predicted
        if predicted is None:
            return []
        own = " | ".join(f"{seconds * 1000:.3g}" for seconds in predicted.stage_s)
        told = [f"predicted: {own} ms per batch", f"{grouped(predicted.samples_per_s)} samples/s"]
        return [*told, predicted.words] if predicted.words else told

    def _stages(self) -> str:
        """``2 stages (blocks 0-1 | 2-3) on cpu``."""
        devices, replicas = self._placement.devices, self._placement.replicas
        ranges = [block_range(r) for r in self._placement.partition]
        noun = plural(len(ranges), "stage")
        if len(set(devices)) > 1:
            hosts = [" and ".join(devices[p] for p in replicas.group(s)) for s in range(len(ranges))]
            return f"{noun} (blocks {' | '.join(f'{r} on {d}' for r, d in zip(ranges, hosts, strict=True))})"
        if len(devices) == 1:
            return f"{noun} on {devices[0]}"
        shared = [f"{r} in {n} processes" if n > 1 else r for r, n in zip(ranges, replicas.counts, strict=True)]
        return f"{noun} (blocks {' | '.join(shared)}) on {devices[0]}"

    def started(self) -> None:
        """Start the clock of the first epoch."""
        self._since = self.clock()

    def position(self, plan: Plan, *, aligned: bool = True) -> str:
        """``epoch  7/20``; where the number of epochs is not known, which block trains and for how long it has."""
        if plan.scores_test:
            return "test set"
        last, most = self._resolved.num_blocks - 1, self._epochs
        trained = plan.lr_epochs[plan.top] + 1
        if not aligned:
            rest = f", block {plan.top} ({trained}/{most})" if self._phased else f"/{most}"
            return f"epoch {plan.epoch + 1}{rest}"
        width = len(str(most))
        if not self._phased:
            return f"epoch {plan.epoch + 1:>{width}}/{most}"
        epoch = f"epoch {plan.epoch + 1:>{len(str(most * (last + 1)))}}"
        return f"{epoch}  block {plan.top:>{len(str(last))}} ({trained:>{width}}/{most})"

    def epoch(self, plan: Plan, blocks: Sequence[BlockScores], *, aligned: bool = True) -> str:
        """Line about a finished epoch: the loss of the top training block, the network's score; in phases, the block's.

        Args:
            plan: of the epoch.
            blocks: rows as :class:`pipeline.records.view.View` has them.
            aligned: whether lines make columns when they are written one under the other.

        Returns:
            The line; its seconds are wall time, evaluation included. Aligned, it ends with the gates of a gated run.
        """
        now = self.clock()
        elapsed, self._since = now - self._since, now
        if plan.choice is not None and plan.scores_test:
            score = self._test_score
            found = score.text(score.of(blocks[-1]) if blocks else None)
            return f"test set, by the weights of epoch {(plan.choice.best or 0) + 1}: {score.name} {found}{score.unit}"
        trained = [b for b in blocks if b["trained"]]
        top = trained[-1] if trained else None
        rate = self._resolved.batching.num_train / elapsed if elapsed > 0 else None
        # In the phases before the last one it is not the network's score, and must not read like it.
        score, owner = self.score, f"its {self.score.name}" if self._phased else self.score.name
        scored = top if self._phased else (blocks[-1] if blocks else None)  # the last block may be a frozen one
        widths, gap = ((9, 6, 9, 7), "  ") if aligned else ((0, 0, 0, 0), ", ")
        return gap.join([
            self.position(plan, aligned=aligned),
            f"loss {loss_text(top and top['train_loss']):>{widths[0]}}",
            f"{owner} {score.text(score.of(scored) if scored else None):>{widths[1]}}{score.unit}",
            f"{grouped(rate):>{widths[2]}} samples/s",
            f"{elapsed:{widths[3]}.2f} s",
            *(gate_range(blocks) if aligned else []),
        ])  # fmt: skip

    def ending(self, table: Mapping[str, Any]) -> tuple[str, str]:
        """Lines about the result and about the folder of the files; ``table`` is ``result.json``."""
        score = self._test_score
        values = [score.of(b) for b in table["blocks"]]
        parts = ["EMULATED COMPUTE, NOTHING WAS LEARNED"] if self._resolved.config.chaos.emulates else []
        if (whole := score.of_run(table)) is not None:
            parts.append(f"{score.name} {score.text(whole)}{score.unit}")
        if len(values) > 1 and any(v is not None for v in values[:-1]):
            parts.append(f"blocks {block_range(range(len(values)))}: {' '.join(map(score.text, values))}{score.unit}")
        predicted = self._placement.predicted
        aside = "" if predicted is None else f" (predicted: {grouped(predicted.samples_per_s)})"
        parts.append(f"{grouped(table['train_samples_per_s'])} samples/s{aside} over {duration(table['wall_s'])}")
        if self._resolved.config.measure.every > 0:
            parts.append("now measuring")
        return f"done: {', '.join(parts)}", f"files in {self._out}"


def plural(count: int, noun: str) -> str:
    """``1 stage``, ``2 stages``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def gate_text(gate: float | None) -> str:
    """The part of its steps that a block took; ``-`` for None."""
    return "-" if gate is None else f"{gate:.2f}"


def gate_range(blocks: Sequence[BlockScores]) -> list[str]:
    """``gate 0.53 to 1.00``: the least and the most of the blocks; empty without gates."""
    gates = [row["gate"] for row in blocks if "gate" in row]
    return [f"gate {gate_text(min(gates))} to {gate_text(max(gates))}"] if gates else []


def block_range(blocks: range) -> str:
    """``0-1``, or ``2`` for one block."""
    return str(blocks.start) if len(blocks) == 1 else f"{blocks.start}-{blocks.stop - 1}"
