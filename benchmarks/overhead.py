"""Cost of a block's step beyond its arithmetic, by layer of the runtime.

    python -m benchmarks.overhead --out benchmarks/results/overhead.json

One process of one thread trains the same dense blocks under linear decoders and Adam in several ways, in turns, from
the bare matrix products up to a stage's whole program; the differences between neighbours are what each layer of the
runtime costs. All figures are microseconds per block and step.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import environment, ratio, spread, take_turns, write
from benchmarks.wording import numbers, table
from pipeline.config import Config
from pipeline.engine.requests import NextPlan, Receive
from pipeline.engine.stage import Stage
from pipeline.learning.rule import LearningRule
from pipeline.network.block import build_block
from pipeline.records.time_budget import TimeBudget
from pipeline.resolve import RunSpec, build_rule, resolve
from pipeline.schedules.plan import BlockMode, Plan
from workers.host.allocator import keep_freed_memory
from workers.job import Job, share_out
from workers.placement import Placement
from workers.stage_build import stage_of
from workers.worker import build_program

__all__ = ["Size", "arms", "main"]

STEPS = 100
"""Steps of one turn, at width 128."""


@dataclass(frozen=True)
class Size:
    """Equal blocks in one stage, with an equal block below them."""

    width: int
    batch: int
    blocks: int

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.blocks} x {self.width} x {self.width}, batch {self.batch}"


SIZES = (Size(128, 50, 1), Size(128, 50, 4), Size(1024, 128, 4))


def _config(size: Size, steps: int) -> Config:
    return Config.from_dict({
        "model": {"name": "mlp", "depth": size.blocks + 1, "width": size.width, "norm": "none"},
        "dataset": {"name": "noise", "shape": [size.width], "num_train": size.batch * steps, "num_test": 2},
        "rule": {"name": "linear_decoder"}, "optimizer": {"name": "adam", "lr": 1e-4},
        "train": {"batch_size": size.batch}, "run": {"threads": 1, "predict": False},
        "transport": {"name": "inline"},
    })  # fmt: skip


def _job(resolved: RunSpec, size: Size, folder: Path) -> Job:
    """The first ``size.blocks`` blocks as a stage of their own."""
    partition = (range(size.blocks), range(size.blocks, resolved.num_blocks))
    return share_out(resolved, Placement(partition, ("cpu", "cpu"), "inline", 1), *[folder] * 4)[0]


class _Plain:
    """The blocks as they would be written down: zero_grad, forward, backward and step for each."""

    def __init__(self, resolved: RunSpec, size: Size, x: Tensor, y: Tensor, *, fused: bool | None) -> None:
        self._bodies = [build_block(resolved.blueprints[k], 0, k).body for k in range(size.blocks)]
        self._decoders = [nn.Linear(size.width, 10, bias=False) for _ in self._bodies]
        self._optimizers = [
            torch.optim.Adam([*body.parameters(), *decoder.parameters()], lr=1e-4, fused=fused)
            for body, decoder in zip(self._bodies, self._decoders, strict=True)
        ]
        self._x, self._targets = x, F.one_hot(y, 10).float()

    def step(self) -> None:
        x = self._x
        for body, decoder, optimizer in zip(self._bodies, self._decoders, self._optimizers, strict=True):
            optimizer.zero_grad()
            h = body(x)
            torch.autograd.backward(F.mse_loss(decoder(h), self._targets))
            optimizer.step()
            x = h.detach()


def _products(size: Size, x: Tensor) -> Callable[[], None]:
    """The five products of a step: two forward, two back through the decoder, and the weight's gradient."""
    weight, decoder = torch.randn(size.width, size.width), torch.randn(10, size.width)
    error = torch.randn(size.batch, 10)

    def step() -> None:
        for _ in range(size.blocks):
            torch.mm(x, weight.t())
            torch.mm(x, decoder.t())
            torch.mm(error, decoder)
            torch.mm(error.t(), x)
            torch.mm(x.t(), x)

    return step


def _rules(rules: Sequence[LearningRule], x: Tensor, y: Tensor) -> Callable[[], None]:
    """Forward and learning, called without a stage; gradients are dropped."""

    def step() -> None:
        z = x
        for rule in rules:
            z, context = rule(z, y)
            rule.learn(context, ())
            for p in rule.parameters():
                p.grad = None

    return step


def _optimizer(resolved: RunSpec, rules: Sequence[LearningRule]) -> Callable[[], object]:
    """The step of one optimizer over the parameters of all blocks, as a stage has it."""
    parameters = [p for rule in rules for p in rule.parameters()]
    for p in parameters:
        p.grad = torch.zeros_like(p)
    return resolved.optimizer.build(parameters).step


def _stage(stage: Stage, x: Tensor, y: Tensor) -> Callable[[], object]:
    """A stage's step."""
    key = 0

    def step() -> None:
        nonlocal key
        key += 1
        z = x
        for group in stage.groups:
            z = stage.forward(key, z, y, 1.0, group)
            stage.learn_at_once(key)
        stage.step()

    return step


def _epoch(job: Job, plan: Plan) -> Callable[[], None]:
    """A stage's whole program for one epoch: takes batches; activations are dropped, so it never waits."""
    program = build_program(job, TimeBudget())

    def epoch() -> None:
        requests = program.run()
        reply: Any = None
        while True:
            request = requests.send(reply)
            assert not isinstance(request, Receive)
            reply = plan if isinstance(request, NextPlan) and request.epoch == 0 else None
            if isinstance(request, NextPlan) and reply is None:
                return

    return epoch


def arms(size: Size, steps: int, folder: Path) -> dict[str, Callable[[], float]]:
    """Ways of training, by name; each does ``steps`` steps and returns microseconds per block and step."""
    resolved = resolve(_config(size, steps), folder)
    everyone = (BlockMode.TRAIN,) * resolved.num_blocks
    plan = Plan(0, everyone, (0,) * resolved.num_blocks, evaluate=False)
    x, y = torch.rand(size.batch, size.width), torch.randint(10, (size.batch,))
    rules = {closed: _build(resolved, size, closed) for closed in (True, False)}
    job = _job(resolved, size, folder)
    stage = stage_of(job)
    stage.begin(plan)
    single = {
        "products alone": _products(size, x),
        "rule in closed form": _rules(rules[True], x, y),
        "rule by autograd": _rules(rules[False], x, y),
        "optimizer, once per stage": _optimizer(resolved, _build(resolved, size, True)),
        "stage": _stage(stage, x, y),
        "written plainly, fused Adam": _Plain(resolved, size, x, y, fused=True).step,
        "written plainly, default Adam": _Plain(resolved, size, x, y, fused=None).step,
    }
    per_step = {name: _timed(step, steps, size.blocks) for name, step in single.items()}
    epoch = _epoch(job, plan)
    return {**per_step, "program": lambda: _seconds([epoch]) / steps / size.blocks * 1e6}


def _build(resolved: RunSpec, size: Size, closed_form: bool) -> list[LearningRule]:
    config = replace(resolved.config, run=replace(resolved.config.run, closed_form=closed_form))
    return [build_rule(config, resolved.blueprints[k], resolved.specs[k]) for k in range(size.blocks)]


def _timed(step: Callable[[], object], steps: int, blocks: int) -> Callable[[], float]:
    return lambda: _seconds([step] * steps) / steps / blocks * 1e6


def _seconds(calls: Iterable[Callable[[], object]]) -> float:
    start = time.perf_counter()
    for call in calls:
        call()
    return time.perf_counter() - start


def measure(size: Size, steps: int, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures and ratios of one size."""
    with tempfile.TemporaryDirectory() as folder:
        ways = arms(size, steps, Path(folder))
        for way in ways.values():
            way()  # the first steps build the optimizer's state and fill caches
        found = take_turns(ways, rounds)
    ratios = {f"{name} / stage": ratio(found[name], found["stage"]) for name in found if name.startswith("written")}
    ratios["products alone / stage"] = ratio(found["products alone"], found["stage"])
    return {name: spread(values) for name, values in found.items()}, ratios


def main(arguments: Sequence[str]) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="three rounds of few steps")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    keep_freed_memory()
    about = environment("benchmarks.overhead", arguments, threads=1)
    parts, ratios = {}, {}
    for size in SIZES:
        steps = max(3, STEPS * 128 * 50 // (size.width * size.batch)) if not options.quick else 3
        parts[size.name], ratios[size.name] = measure(size, steps, 3 if options.quick else options.rounds)
    print(table(["", "us per block and step"], list(numbers(parts))))
    print(table(["ratio", ""], list(numbers(ratios))))
    write(options.out, {"unit": "microseconds per block and step", "parts": parts, "ratios": ratios,
                        "environment": about})  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
