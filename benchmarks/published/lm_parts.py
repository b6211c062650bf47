"""What the page of the table ``lm`` says besides bits per byte: gaps, blocks, rates, costs, and what was asked."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.accuracy.cell import Cell, Found
from benchmarks.wording import seconds
from benchmarks.wording import table as markdown
from pipeline.records.number_text import format_bytes, grouped

__all__ = ["Arm", "Arms", "bits_of", "paired"]

Run = Mapping[str, Any]
_LEAST_TOLD = 0.05
"""In per cent: a block that is better by less is said to be as good."""


def bits_of(run: Run, block: int = -1) -> float | None:
    """Bits per byte on the validation text after the last step, by the read-out of a block; -1 is the network's."""
    losses = run.get("block_losses") or ()
    found = losses[block] if -len(losses) <= block < len(losses) else None
    return None if found is None else float(found) / math.log(2)


@dataclass(frozen=True)
class Arm:
    """One way of training."""

    row: str
    blocks: int
    is_local: bool
    """It counts among those of which the best is asked for."""
    budgets: Mapping[int, Cell]
    """By steps."""
    rates: Mapping[int, Mapping[float, Cell]]
    """By steps and learning rate, where it was tuned; that of ``budgets`` among them."""

    def best(self, steps: int, found: Found) -> tuple[Cell | None, float | None]:
        """The cell with the fewest bits of all rates that have run, and its rate; no rate where none was tuned."""
        tried = {rate: v for rate, cell in self.rates.get(steps, {}).items() if (v := _median(cell, found)) is not None}
        if not tried:
            return self.budgets.get(steps), None
        rate = min(tried, key=lambda each: tried[each])
        return self.rates[steps][rate], rate


class Arms:
    """The parts, each a method that returns Markdown, empty where nothing of it has been run.

    Args:
        arms: the first of them is what the others are compared with.
        asked: statements: budget, blocks, and the most per cent by which the best arm of so many blocks may be above
            the first arm.
        usual: rows of the arms that others of as many blocks are compared with too.
    """

    def __init__(
        self, arms: Sequence[Arm], asked: Sequence[tuple[int, int, float]], usual: Sequence[str] = ()
    ) -> None:
        self.first, *self.others = arms
        self.arms = arms
        self.asked = asked
        self.usual = {arm.blocks: arm for arm in arms if arm.row in usual}
        self.steps = list(self.first.budgets)

    def gaps(self, found: Found) -> str:
        """By how much each arm is above the first, in per cent, seed by seed."""
        about = (
            f"Bits per byte above {self.first.row}, per cent of them: the median of the seeds that both have, each "
            "compared with its own, and in brackets the least and the most."
        )
        return self._compared(about, {arm.row: (arm, self.first) for arm in self.others}, found)

    def read_outs(self, found: Found) -> str:
        """What another read-out than the usual one changes, blocks being as many: whether a shared one helps."""
        about = (
            "The same above the block's own read-out with a norm, of as many blocks: below 0 another way to read a "
            "block's output helps."
        )
        pairs = {arm.row: (arm, base) for arm in self.others if (base := self.usual.get(arm.blocks)) not in (None, arm)}
        return self._compared(about, pairs, found)

    def _compared(self, about: str, pairs: Mapping[str, tuple[Arm, Arm]], found: Found) -> str:
        """A row for each pair of arms that have both been run."""
        rows = []
        for row, (arm, base) in pairs.items():
            spread = [_spread(paired(arm, base, steps, found)) for steps in self.steps]
            if any(spread):
                rows.append([row, *(text or "-" for text in spread)])
        return _part(about, ["", *self._heads()], rows)

    def blocks(self, found: Found) -> str:
        """The figure of every block's read-out."""
        rows = []
        for arm in self.others:
            texts = [" ".join(_figures(arm, steps, found)) for steps in self.steps]
            if any(texts):
                rows.append([arm.row, *(text or "-" for text in texts)])
        return _part("Bits per byte of every block, the first one in front; a block without a read-out has none.",
                     ["", *self._heads()], rows)  # fmt: skip

    def depth(self, found: Found) -> str:
        """By how much the last block is better than the best one below it: whether depth pays."""
        rows = []
        for arm in self.others:
            gains = [_gain(_block_bits(arm, steps, found)) for steps in self.steps]
            if any(gain is not None for gain in gains):
                rows.append([arm.row, *("-" if gain is None else _signed(gain) for gain in gains)])
        return _part("What the last block has over the best one below it, in per cent of that one's bits: where it is "
                     "not above 0, the blocks above add nothing.", ["", *self._heads()], rows)  # fmt: skip

    def costs(self, found: Found) -> str:
        """Arithmetic, memory and time."""
        rows = []
        for arm in self.arms:
            counted = found.counted.get(arm.row)
            if counted is not None:
                rows.append([
                    arm.row, grouped(counted["flop_per_byte"] / 1e6), f"{100 * counted['heads_share']:.1f} %",
                    format_bytes(max(counted["held_bytes"])), format_bytes(sum(counted["trained_bytes"])),
                    format_bytes(counted["sent_bytes"]) if counted["sent_bytes"] else "-", _pace(arm, found),
                ])  # fmt: skip
        about = (
            "Training costs, counted without a run: millions of operations for each byte of training text, attention's "
            "products over the whole window in them; the heads' share, which is what stands beside one forward and one "
            "backward pass through each block; what the stage that holds most holds of a step, a stage per block, "
            "without the graph of a read-out, which is made while its block learns; weights; what goes from a block to "
            "the next in a step. Seconds a step are those of the runs, one stage of one thread, beside other work of "
            "the machine: no measurement of speed."
        )
        heads = ["", "MFLOP a byte", "heads", "held", "weights", "sent", "a step took"]
        return _part(about, heads, rows)

    def rates(self, found: Found) -> str:
        """Every tuned arm at every rate, and the best rate of each, by budget."""
        return "\n\n".join(text for steps in self.steps if (text := self._rates(steps, found)))

    def _rates(self, steps: int, found: Found) -> str:
        """Those of one budget; empty where none of them has run."""
        tuned = [arm for arm in self.arms if steps in arm.rates]
        known = {arm.row: {rate: _median(cell, found) for rate, cell in arm.rates[steps].items()} for arm in tuned}
        if not any(value is not None for values in known.values() for value in values.values()):
            return ""
        rows = [[f"{rate:g}", *("-" if (v := known[arm.row][rate]) is None else f"{v:.4g}" for arm in tuned)]
                for rate in tuned[0].rates[steps]]  # fmt: skip
        said = "\n".join(f"- Best rate of {arm.row}: {_best_rate(known[arm.row])}" for arm in tuned)
        about = f"Bits per byte after {steps} steps by learning rate, on the validation text."
        return f"{_part(about, ['', *(arm.row for arm in tuned)], rows)}\n\n{said}"

    def verdicts(self, found: Found) -> str:
        """What was asked of the best arm of so many blocks, each arm at the best rate that was tried of it."""
        lines = [self._verdict(budget, count, most, found) for budget, count, most in self.asked]
        return "\n".join(line for line in lines if line)

    def _verdict(self, budget: int, count: int, most: float, found: Found) -> str:
        """The line of one statement; empty where no arm has run."""
        asked = [arm for arm in self.others if arm.is_local and arm.blocks == count and budget in arm.budgets]
        base, at = self.first.best(budget, found)
        gaps = {
            _at(arm.row, rate): median(p) for arm in asked for cell, rate in [arm.best(budget, found)]
            if (p := _paired(cell, base, found))
        }  # fmt: skip
        if not gaps:
            return ""
        best = min(gaps, key=lambda row: gaps[row])
        missing = len(asked) - len(gaps)
        verdict = "holds" if gaps[best] <= most else "open" if missing else "**does not hold**"
        open_ = f"; {missing} of {len(asked)} arms not run" if missing else ""
        return (f"- The best local arm of {count} blocks after {budget} steps is at most {most:g} % above "
                f"{_at(self.first.row, at)}: {verdict} ({best}: {_signed(gaps[best])}{open_})")  # fmt: skip

    def _heads(self) -> list[str]:
        return [f"{steps} steps" for steps in self.steps]


def paired(arm: Arm, base: Arm, steps: int, found: Found) -> list[float]:
    """The gap of an arm to another one in per cent, of every seed that both have."""
    return _paired(arm.budgets.get(steps), base.budgets.get(steps), found)


def _paired(cell: Cell | None, base: Cell | None, found: Found) -> list[float]:
    """The same of two cells, of which one may not be there."""
    ours, theirs = (
        {run["seed"]: value for run in (found.completed(each) if each else ()) if (value := bits_of(run)) is not None}
        for each in (cell, base)
    )
    return [100 * (ours[seed] / theirs[seed] - 1) for seed in sorted(ours.keys() & theirs.keys())]


def _at(row: str, rate: float | None) -> str:
    """``backprop at 0.003``."""
    return row if rate is None else f"{row} at {rate:g}"


def _part(about: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"{about}\n\n{markdown(heads, rows)}" if rows else ""


def _signed(per_cent: float) -> str:
    return f"{per_cent:+.1f} %" if abs(per_cent) >= _LEAST_TOLD else "0.0 %"


def _spread(gaps: Sequence[float]) -> str:
    """``+1.2 % (+0.8 % to +1.9 %, 3 seeds)``; empty without gaps."""
    if not gaps:
        return ""
    text = _signed(median(gaps))
    return f"{text} ({_signed(min(gaps))} to {_signed(max(gaps))}, {len(gaps)} seeds)" if len(gaps) > 1 else text


def _median(cell: Cell | None, found: Found, metric: Callable[[Run], float | None] = bits_of) -> float | None:
    """Of the runs of a cell; None where it has none."""
    values = [v for run in (found.completed(cell) if cell else ()) if (v := metric(run)) is not None]
    return median(values) if values else None


def _block_bits(arm: Arm, steps: int, found: Found) -> list[float | None]:
    """Of every block; empty where the arm has not run."""
    cell = arm.budgets.get(steps)
    if cell is None or not found.completed(cell):
        return []
    return [_median(cell, found, lambda run, k=k: bits_of(run, k)) for k in range(arm.blocks)]  # type: ignore[misc]


def _figures(arm: Arm, steps: int, found: Found) -> list[str]:
    return ["-" if value is None else f"{value:.3f}" for value in _block_bits(arm, steps, found)]


def _gain(bits: Sequence[float | None]) -> float | None:
    """In per cent, of the last block over the best below it; None where no block below has a read-out."""
    below = [value for value in bits[:-1] if value is not None]
    last = bits[-1] if bits else None
    return 100 * (1 - last / min(below)) if below and last is not None else None


def _pace(arm: Arm, found: Found) -> str:
    """Seconds of a step, over all runs of an arm."""
    runs = [run for cell in arm.budgets.values() for run in found.completed(cell)]
    return seconds(median(float(run["train_s"]) / int(run["steps"]) for run in runs)) if runs else "-"


def _best_rate(known: Mapping[float, float | None]) -> str:
    """The rate with the fewest bits; open as long as not all have been tried."""
    tried = {rate: value for rate, value in known.items() if value is not None}
    if not tried:
        return "open, none of them has been run"
    best = min(tried, key=lambda rate: tried[rate])
    text = f"{best:g} ({tried[best]:.4g})"
    return text if len(tried) == len(known) else f"open, {text} so far, {len(tried)} of {len(known)} rates run"
