"""Where the time of a step goes, and what a pipeline of local blocks can gain at most over backprop.

    python -m benchmarks.roofline --preset vgg8b-quarter --out benchmarks/results/roofline-vgg8b-quarter.json

One process of one thread trains the preset's whole network under its local rule and under backprop, in turns, each
under torch's profiler, with torch's fused optimizer. The operations are counted by kind. Two figures follow:
``arithmetic``, how much more time backprop's operations take than the local rule's, which is what two perfectly used
cores could gain; and ``products_only``, the same if all that is no product cost nothing.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.arms.work import ArmBatches, UsersOptimizer
from benchmarks.harness import environment, ratio, spread, take_turns, write
from benchmarks.presets import PRESETS, Preset
from benchmarks.wording import spread_text, table
from pipeline.engine.build import build_rules
from pipeline.learning.rule import LearningRule
from pipeline.numerics.compute import compute_as
from pipeline.numerics.memory_format import channels_last
from pipeline.resolve import resolve
from workers.host.allocator import keep_freed_memory

__all__ = ["KINDS", "by_kind", "main", "markdown"]

KINDS = {
    "products": ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::mm", "aten::addmm", "aten::bmm"),
    "batch norm": ("aten::native_batch_norm", "aten::native_batch_norm_backward"),
    "activations": (
        "aten::relu", "aten::clamp_min", "aten::leaky_relu", "aten::leaky_relu_", "aten::threshold_backward",
        "aten::leaky_relu_backward", "aten::gelu", "aten::gelu_backward",
    ),
    "attention": (
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "optimizer": ("aten::_fused_adam_", "aten::_fused_adamw_", "aten::_foreach_norm", "aten::_foreach_mul_"),
    "pooling, zeros": (
        "aten::maximum", "aten::max_pool2d_with_indices", "aten::max_pool2d_with_indices_backward", "aten::avg_pool2d",
        "aten::avg_pool2d_backward", "aten::fill_", "aten::zero_",
    ),
}  # fmt: skip
"""Operations by kind; a block that sends nothing back pools by maxima. What is in none is ``other``, RMS norms among
them, which torch makes of small operations. The products with a decoder are among the products."""

_LOCAL = [name for name, preset in PRESETS.items() if preset.rule in ("linear_decoder", "pred", "aux")]
_WARM = 2


def by_kind(averages: Sequence[Any], steps: int) -> dict[str, float]:
    """Seconds of a step by kind of operation, from the profiler's averages: the time of each operation itself."""
    found = dict.fromkeys([*KINDS, "other"], 0.0)
    kinds = {name: kind for kind, names in KINDS.items() for name in names}
    for event in averages:
        found[kinds.get(event.key, "other")] += event.self_cpu_time_total * 1e-6 / steps
    return found


def _profiled(step: Callable[[], None], steps: int) -> dict[str, float]:
    """Of some steps, by kind."""
    for _ in range(_WARM):
        step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step()
    return by_kind(profiler.key_averages(), steps)


def _step(
    preset: Preset, mode: str, learn: Callable[[Sequence[LearningRule], Tensor, Tensor], None]
) -> Callable[[], None]:
    """A step under a mode's rule, its batch and its optimizer's part included."""
    resolved = resolve(preset.config(precision=preset.precision, mode=mode), Path(tempfile.gettempdir()))
    device = torch.device("cpu")
    rules = build_rules(resolved, resolved.blueprints, range(resolved.num_blocks), device)
    feed = ArmBatches(resolved, device)
    optimizer = UsersOptimizer(resolved, nn.Sequential(*rules))

    def step() -> None:
        chosen = feed.advance()
        x = feed.inputs(chosen)
        learn(rules, channels_last(x) if preset.channels_last else x, feed.labels(chosen))
        optimizer.step()
        optimizer.zero_grad()

    return step


def _local(rules: Sequence[LearningRule], x: Tensor, y: Tensor) -> None:
    """Every block learns at once."""
    for rule in rules:
        x, context = rule(x, y)
        rule.learn(context, ())


def _backprop(rules: Sequence[LearningRule], x: Tensor, y: Tensor) -> None:
    """The same by backpropagation through all blocks, as one graph."""
    for rule in rules:
        x = rule.block(x)
    rules[-1].spec.task.loss(x, y).backward()  # type: ignore[no-untyped-call]


def markdown(found: Mapping[str, Any]) -> str:
    """Milliseconds of a step by kind, and what follows from them."""
    arms = found["step_s"]
    rows = [[kind, *(spread_text(arm[kind], _milliseconds) for arm in arms.values())] for kind in arms["local"]]
    in_all, alone = (spread_text(found[name]) for name in ("arithmetic", "products_only"))
    head = ["ms per step", *(found["rule"] if name == "local" else name for name in arms)]
    return f"{table(head, rows)}\n\nBackprop takes {in_all} times as long as {found['rule']}; its products {alone}."


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}"


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a table, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=_LOCAL, default="vgg8b-quarter", help="of a rule that waits for nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="of each turn")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    preset = replace(PRESETS[options.preset], device="cpu")
    keep_freed_memory()
    with compute_as(1, preset.precision, torch.device("cpu")):
        about = environment("benchmarks.roofline", arguments, threads=1)
        steps = {"local": _step(preset, "parallel", _local), "backprop": _step(preset, "backprop", _backprop)}
        arms = {name: partial(_profiled, step, options.steps) for name, step in steps.items()}
        found = take_turns(arms, options.rounds)
    totals = {name: [sum(turn.values()) for turn in turns] for name, turns in found.items()}
    products = {name: [turn["products"] for turn in turns] for name, turns in found.items()}
    result: dict[str, Any] = {
        "preset": preset.name, "rule": preset.rule, "steps": options.steps, "rounds": options.rounds,
        "step_s": {name: {kind: spread([turn[kind] for turn in turns]) for kind in (*KINDS, "other")}
                   for name, turns in found.items()},
        "arithmetic": ratio(totals["backprop"], totals["local"]),
        "products_only": ratio(products["backprop"], products["local"]),
    }  # fmt: skip
    print(markdown(result))
    write(options.out, {**result, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
