"""Arithmetic and memory of a step under every arm of a table of language models, counted without training.

    python -m benchmarks.arithmetic --out benchmarks/results/arithmetic-lm.json

Products are those of :mod:`benchmarks.step_flop`. What a block holds until it learns is counted as in a run, by the
storages that autograd saves, in one step on the CPU. Nothing here depends on the machine, the data or the time.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks import harness
from benchmarks.accuracy.cell import Cell, PublishedTable
from benchmarks.published import TABLES
from benchmarks.step_flop import full_batch, rules_of, step_flop
from pipeline.config import Config
from pipeline.engine.in_flight import SavedTensors
from pipeline.numerics.autocast import autocast
from pipeline.resolve import RunSpec, resolve
from workers.edges import batch_bytes

__all__ = ["arms_of", "counted", "held_by_block", "main"]


def arms_of(table: PublishedTable) -> dict[str, Cell]:
    """The first cell of each row; budgets and seeds change nothing here."""
    found: dict[str, Cell] = {}
    for cell in table.cells:
        for figure in cell.figures:
            found.setdefault(figure.row, cell)
    return found


def counted(cell: Cell) -> dict[str, Any]:
    """What is counted of a cell's step: operations per byte of text, the heads' share of them, held and trained bytes.

    ``heads_share`` is the share of the products beside one forward and one backward pass through every block: of
    read-outs, of what stands in front of them, and of an overlap's second pass that makes its message. ``sent_bytes``
    are those of a step's activations and labels on the way from one block to the next.
    """
    resolved = resolved_on_any_text(cell)
    flop, own = step_flop(resolved)
    symbols = resolved.microbatch_size * resolved.data.input_shape[0]
    return {
        "flop_per_byte": sum(flop) / symbols, "heads_share": 1 - sum(own) / sum(flop),
        "held_bytes": held_by_block(resolved), "trained_bytes": list(resolved.trained_bytes),
        "sent_bytes": resolved.microbatch_size * batch_bytes(resolved, 1) if resolved.num_blocks > 1 else 0,
    }  # fmt: skip


def resolved_on_any_text(cell: Cell) -> RunSpec:
    """The cell's run on the text that every Python has: shapes are the same, and no file is needed."""
    config = cell.nested(0)
    return resolve(Config.from_dict({**config, "dataset": {**config["dataset"], "path": ""}}), Path())


def held_by_block(resolved: RunSpec) -> list[int]:
    """Bytes that each block holds of a full batch between forward and learning, as a stage of it alone counts them."""
    found, device = [], torch.device("cpu")
    x, y = full_batch(resolved, device)
    is_rounded = resolved.config.run.autocast != "none"
    for rule in rules_of(resolved, device):
        saved = SavedTensors(rule.parameters())
        with saved.watch(), autocast(device) if is_rounded else nullcontext():
            x, context = rule(x, y)
            saved.add([context])
        found.append(saved.num_bytes)
    return found


def main(arguments: Sequence[str], count: Callable[[Cell], Mapping[str, Any]] = counted) -> int:
    """Counts every arm, prints a line for each, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.arithmetic", description=__doc__.partition("\n")[0])
    parser.add_argument("--table", choices=["lm", "lm-m"], default="lm")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    about = harness.environment("benchmarks.arithmetic", arguments)
    rows = {}
    for row, cell in arms_of(TABLES[options.table]).items():
        rows[row] = count(cell)
        print(f"{row}: {rows[row]['flop_per_byte'] / 1e6:.2f} MFLOP a byte, heads {rows[row]['heads_share']:.1%}",
              flush=True)  # fmt: skip
    harness.write(options.out, {"table": options.table, "arms": rows, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
