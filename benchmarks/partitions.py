"""The planner's partition beside the best one found by trying all.

    python -m benchmarks.partitions --out benchmarks/results/partitions.json
    python -m benchmarks.partitions --net vgg8b-quarter --rounds 2

Two stages, so that there are as many partitions as cuts. Every cut is run once; those that are near the best then, and
the planned one, are run ``--rounds`` times more, in turns. What is compared is the rate of the planned cut over that
of the cut whose median rate is highest, round by round; that best cut is the luckiest of many, so the ratio is rather
too small than too large.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.plan import own_cache, planned_config
from benchmarks.presets import PRESETS, Preset
from benchmarks.watched_run import epochs_of, watch_run
from pipeline.config import Config, NamedConfig
from pipeline.resolve import resolve
from workers.placement import this_host
from workers.planner.command import placed, plan_rows
from workers.planner.links import Question

__all__ = ["NETS", "compare", "main", "near"]

_WIDTHS = (1536, 1536, 1024, 512, 512, 512, 512, 512)
_LOOK_S = 2.0
STAGES = 2
NEAR = 0.9
"""Of the best rate of the first round: a cut below it is not run again."""

NETS = {
    # Wide blocks first: the even cut gives the first stage four fifths of the work.
    "mlp-uneven": dataclasses.replace(
        PRESETS["mlp-8x1024"], name="mlp-uneven",
        model=NamedConfig(
            name="mlp", options={"width": list(_WIDTHS), "activation": "relu", "norm": "none"}
        ),
    ),
    "vgg8b-quarter": PRESETS["vgg8b-quarter"],
}  # fmt: skip


def near(rates: Mapping[int, float], planned: int) -> list[int]:
    """The cuts that are worth more rounds: those near the best, and the planned one.

    Args:
        rates: of each cut, as blocks of the first stage; samples per second.
        planned: the plan's cut.
    """
    most = max(rates.values())
    return [cut for cut, rate in rates.items() if rate >= NEAR * most or cut == planned]


def compare(preset: Preset, rounds: int, seconds: float) -> dict[str, Any]:
    """All cuts of a net.

    Args:
        preset: the net.
        rounds: of the cuts near the best, beside the first one.
        seconds: measured of each run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = planned_config(preset, 0.0)
        row = plan_rows(config, Question((STAGES,)), this_host(), folder, fresh=True, ways=("onward",))[0]
        num_blocks = resolve(config, folder).num_blocks
        planned = row["partition"][0]

        def arm(cut: int) -> Callable[[], float]:
            return partial(_rate, preset, {**row, "partition": [cut, num_blocks - cut]}, seconds, folder)

        first = {cut: arm(cut)() for cut in range(1, num_blocks)}
        turns = harness.take_turns({str(cut): arm(cut) for cut in near(first, planned)}, rounds)
    found = {cut: [rate, *turns.get(str(cut), [])] for cut, rate in first.items()}
    return {"net": preset.name, "rounds": rounds, "planned": planned, "predicted": row["samples_per_s"],
            "stage_s": row["stage_s"], **_best(found, planned)}  # fmt: skip


def _rate(preset: Preset, row: Mapping[str, Any], seconds: float, folder: Path) -> float:
    """Samples per second of a run with that partition."""
    config = Config.from_dict(placed(planned_config(preset, 0.0), {**row, "least_depth": None}))
    warm, epochs = epochs_of(config, preset.steps_per_epoch, row["step_s"], seconds)
    config = dataclasses.replace(
        config, train=dataclasses.replace(config.train, epochs=epochs),
        run=dataclasses.replace(config.run, threads=row["threads"], predict=False),
    )  # fmt: skip
    rate: float = watch_run(config, warm, preset.num_samples, folder, look_s=_LOOK_S)["samples_per_s"]
    print(f"{preset.name}, {row['partition']}: {rate:.0f} samples/s", flush=True)
    return rate


def _best(found: Mapping[int, Sequence[float]], planned: int) -> dict[str, Any]:
    """The best cut among those that were run in every round, and the planned one's share of its rate."""
    rounds = max(len(rates) for rates in found.values())
    spreads = {cut: harness.spread(rates) for cut, rates in found.items()}
    best = max((cut for cut in found if len(found[cut]) == rounds), key=lambda cut: float(spreads[cut]["median"]))
    return {
        "cuts": [{"cut": cut, "samples_per_s": spread} for cut, spread in spreads.items()], "best": best,
        "share": harness.ratio(found[planned], found[best]),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Measures every net, prints its table, writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.partitions", description=__doc__.partition("\n")[0])
    parser.add_argument("--net", action="append", choices=NETS, help="default: all")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the cuts near the best, beside the first")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured of each run")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args(arguments)
    harness.leave_on_sigterm()
    about = harness.environment("benchmarks.partitions", arguments, load_before=os.getloadavg())
    found = []
    with own_cache():
        for name in options.net or NETS:
            found.append(compare(NETS[name], options.rounds, options.seconds))
            print(f"{name}: planned {found[-1]['planned']}, best {found[-1]['best']} blocks in the first stage; "
                  f"{found[-1]['share']['median']:.1%} of its rate", flush=True)  # fmt: skip
            about = {**about, "load_after": os.getloadavg()}
            harness.write(options.out, {"nets": found, "environment": about})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
