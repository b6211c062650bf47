"""Sections about what was learned: loss and scores of the output block, and of every block."""

from collections.abc import Mapping, Sequence

from workers.report.charts import Line, lines
from workers.report.embed import Mark
from workers.report.inks import DASHES, NUM_RUN_INKS, block_ink, run_ink
from workers.report.measured import Curve
from workers.report.parts import Panel, Section, Swatch
from workers.report.runs import SCORES, ReportRun

__all__ = ["block_legend", "block_lines", "is_share", "learning_sections", "quantity_title", "run_lines", "scaled"]

_UNFOLDED = 12
"""Blocks up to which their section is open."""
_SWATCHES = 9


def learning_sections(runs: Sequence[ReportRun]) -> list[Section]:
    """Of the output block, all runs in each panel; and of all blocks: a panel for each run, or for each block."""
    known = {quantity for run in runs for quantity in run.scores}
    quantities = [*(q for q in SCORES if q in known), *sorted(known.difference(SCORES))]
    output = [
        Panel(quantity_title(quantity), lines(found, f"{quantity} of the output block by epoch, a line for each run"))
        for quantity in quantities
        if (found := run_lines(runs, [scaled(run.of_output(quantity), quantity) for run in runs]))
    ]
    return [
        Section(
            "learning", "Learning: the output block", "Training figures are a mean over the epoch, before each step, "
            "in training mode. A point stands for each epoch that was evaluated.", panels=output,
        ),
        _blocks(runs, [q for q in quantities if q != "train_accuracy"]),
    ]  # fmt: skip


def quantity_title(quantity: str) -> str:
    """``test accuracy, %``."""
    words = quantity.replace("_", " ").replace("train ", "training ", 1)
    return f"{words}, %" if is_share(quantity) else words


def is_share(quantity: str) -> bool:
    """It is a share of the samples, shown in per cent; more is better."""
    return quantity.endswith(("accuracy", "top5"))


def scaled(curve: Curve, quantity: str) -> Curve:
    """Shares as per cent."""
    return {epoch: 100 * value for epoch, value in curve.items()} if is_share(quantity) else curve


def run_lines(runs: Sequence[ReportRun], curves: Sequence[Curve]) -> list[Line]:
    """A line for each run whose curve is not empty."""
    return [
        Line(curve, run_ink(i), DASHES[i // NUM_RUN_INKS % len(DASHES)], Mark(f"run run-{i}", run.name))
        for i, (run, curve) in enumerate(zip(runs, curves, strict=True)) if curve
    ]  # fmt: skip


def block_lines(curves: Mapping[int, Curve], word: str = "block") -> list[Line]:
    """A line for each block, or stage, whose curve is not empty."""
    return [
        Line(curve, block_ink(block), (), Mark("line", f"{word} {block}")) for block, curve in curves.items() if curve
    ]


def block_legend(count: int, word: str = "block") -> list[Swatch]:
    """Colours of some of so many blocks, or stages, evenly chosen."""
    chosen = sorted({round(i * (count - 1) / (_SWATCHES - 1)) for i in range(_SWATCHES)}) if count > 1 else [0]
    return [Swatch(f"block-{k}", f"{word} {k}") for k in chosen]


def _blocks(runs: Sequence[ReportRun], quantities: Sequence[str]) -> Section:
    count = max((run.last_block + 1 for run in runs if run.last_block is not None), default=0)
    name, title = "blocks", "Learning: every block"
    if count < 2:
        return Section(name, title)
    if len(runs) == 1:
        panels = [
            Panel(quantity_title(quantity), lines(found, f"{quantity} of every block by epoch"))
            for quantity in quantities
            if len(found := block_lines({k: scaled(c, quantity) for k, c in runs[0].scores[quantity].items()})) > 1
        ]
        about = "Every block by its own decoder, where it has one. Losses of different blocks may differ in kind."
        return Section(name, title, about, legend=block_legend(count), panels=panels)
    panels = [
        Panel(f"block {block}: {quantity_title(quantity)}", lines(found, f"{quantity} of block {block}, by run"))
        for quantity in quantities for block in range(count) if not _is_output(runs, block)
        if (found := run_lines(runs, [scaled(_of_block(run, quantity, block), quantity) for run in runs]))
    ]  # fmt: skip
    about = (
        "A line for each run; the output block stands above. Losses of different rules are of different kinds: compare "
        "scores between rules."
    )
    return Section(name, title, about, panels=panels, is_folded=count > _UNFOLDED)


def _is_output(runs: Sequence[ReportRun], block: int) -> bool:
    """Of every run that has it."""
    return all(run.last_block == block for run in runs if run.last_block is not None and run.last_block >= block)


def _of_block(run: ReportRun, quantity: str, block: int) -> Curve:
    return dict(run.scores.get(quantity, {}).get(block, {}))
