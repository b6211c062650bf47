"""What halting saves: the time of a training step of ``lra_fdbk`` where samples halt, or batches, or nothing does.

    python -m benchmarks.halting --out benchmarks/results/halting.json

All arms are the run of a config, 8x128 units on MNIST, in turns: without halting; ``rule.halt`` at several shares of
the output's first loss; and each of these with ``rule.halt_level = "batch"``. Where single samples halt, everything is
computed all the same; of a batch that has halted, nothing is below. How deep credit goes decides what there is to be
saved, and changes what is learned, so its depth (blocks updated per sample, the mean over the run) and the test error
stand beside each time. The time of a step is that of the busiest stage, without evaluation.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import environment, ratio, spread, take_turns, write
from benchmarks.wording import seconds, spread_text, table
from pipeline.config import Config, load_config
from pipeline.places import default_data_root
from pipeline.records.number_text import percent
from workers.host.fork_server import warm_up
from workers.run import train

__all__ = ["markdown"]

_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "mnist_lra.toml"
_NONE = "none"
_LEVELS = ("sample", "batch")
_SHARES = (5e-3, 1e-2, 2e-2, 5e-2)


def config_of(path: Path, share: float, level: str, *, epochs: int, stages: int) -> Config:
    """The run of a config that halts below ``share`` (0: never) at ``level``; evaluated once, behind its end."""
    halts = [f"rule.halt={share!r}", f"rule.halt_level={level}"] if share > 0 else []
    fixed = [f"train.epochs={epochs}", f"train.eval_every={epochs}", f"run.stages={stages}", "run.predict=false"]
    return load_config(path, [*fixed, *halts]).config


def figures(config: Config, data_root: Path) -> dict[str, float]:
    """Seconds of a step, depth of credit and test error of a run in processes of its own."""
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        out = Path(folder) / "run"
        result = train(config, out=out, data_root=data_root)
        rows = [json.loads(line) for line in (out / "record.jsonl").read_text(encoding="utf8").splitlines()]
    busiest = max(stage["wall_s"] - stage["eval_s"] for stage in result["stages"])
    return {
        "step_s": busiest / result["steps"], "depth": sum(_credits(rows)) / result["epochs"],
        "test_error": 1.0 - result["test"]["accuracy"],
    }  # fmt: skip


def _credits(rows: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    """The share of samples of every block in every epoch; all of them where a rule counts none."""
    for row in rows:
        if row["event"] == "epoch":
            yield from (1.0 if block["credit"] is None else block["credit"] for block in row["blocks"])


def measured(
    path: Path, shares: Sequence[float], *, epochs: int, stages: int, rounds: int, data_root: Path
) -> dict[str, Any]:
    """All arms in turns; learning is the same in every round."""
    told = {_NONE: (0.0, _LEVELS[0]), **{f"{level}, {s:g}": (s, level) for s in shares for level in _LEVELS}}
    arms = {
        name: partial(figures, config_of(path, share, level, epochs=epochs, stages=stages), data_root)
        for name, (share, level) in told.items()
    }
    found = take_turns(arms, rounds)
    times = {name: [f["step_s"] for f in each] for name, each in found.items()}
    return {
        "arms": {
            name: {
                "level": told[name][1] if told[name][0] else _NONE, "share": told[name][0],
                "step_s": spread(times[name]), "over none": ratio(times[name], times[_NONE]),
                "depth": each[0]["depth"], "test_error": each[0]["test_error"],
            }
            for name, each in found.items()
        },
        "batch over sample": {f"{s:g}": ratio(times[f"batch, {s:g}"], times[f"sample, {s:g}"]) for s in shares},
    }  # fmt: skip


def markdown(found: Mapping[str, Any]) -> str:
    """The table of a file."""
    rows = []
    for arm in found["arms"].values():
        pair = found["batch over sample"][f"{arm['share']:g}"] if arm["level"] == "batch" else None
        halts = arm["level"] != _NONE
        rows.append([
            arm["level"], f"{arm['share']:g}" if halts else "-", spread_text(arm["step_s"], seconds),
            spread_text(arm["over none"]) if halts else "-", spread_text(pair), f"{arm['depth']:.2f}",
            percent(arm["test_error"]),
        ])  # fmt: skip
    head = ["halts", "below, of the first loss", "a step", "of one without halting", "batch over sample",
            "depth of credit, blocks", "test error, %"]  # fmt: skip
    return table(head, rows)


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a line for each arm, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.halting", description=__doc__.partition("\n")[0])
    parser.add_argument("--config", type=Path, default=_CONFIG, metavar="FILE.toml", help="of a run of lra_fdbk")
    parser.add_argument("--share", type=float, action="append", help="of the first loss; may be repeated; default: "
                        f"{', '.join(f'{share:g}' for share in _SHARES)}")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=2, help="of each run")
    parser.add_argument("--stages", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="default: $ONWARD_DATA, else ~/.cache/onward")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    about = environment("benchmarks.halting", arguments, threads=1)
    sizes = {"epochs": options.epochs, "stages": options.stages, "rounds": options.rounds}
    warm_up(load_config(options.config).config.dataset.name)
    found = measured(options.config, options.share or _SHARES, data_root=options.data_root or default_data_root(),
                     **sizes)  # fmt: skip
    for name, arm in found["arms"].items():
        print(f"{name}: {arm['over none']['median']:.3f} times a step without halting "
              f"({seconds(arm['step_s']['median'])}), credit {arm['depth']:.2f} blocks deep")  # fmt: skip
    write(options.out, {"config": options.config.name, **sizes, **found, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
