"""Two runs, the second from the weights of the first, and the errors of both on every split.

    python -m benchmarks.two_phases --config CONFIG --out DIR [--data-root DIR] [--then section.key=value ...]

CONFIG is the first run, ``--then`` is what is other in the second, and both have the validation set of CONFIG. The
first run ends with the weights of its last epoch; the second with those of its own epoch that scored best on the
validation set. The first one's folder is ``DIR-first``, DIR is that of the second, and ``phases.json`` in it has the
errors.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cell_program import flags, run_program
from pipeline.config import Config, load_config
from pipeline.data.batches import Batches
from pipeline.errors import ConfigError
from pipeline.measure.whole_network import WholeNetwork
from pipeline.records.files import write_json
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import RunSpec, load_dataset, resolve
from workers import train

__all__ = ["RESULT", "errors_by_split", "first_run", "second_run"]

RESULT = "phases.json"


def first_run(config: Config) -> Config:
    """CONFIG, its validation set scored after the last epoch alone, so that its weights are those it ends with.

    Raises:
        ConfigError: no samples are held out.
    """
    if not config.dataset.options.get("validation"):
        raise ConfigError(
            "the second run ends with its best epoch on a validation set (given: no dataset.validation, expected: the "
            "share of the training samples that is held out in both runs). Set it."
        )
    return replace(config, train=replace(config.train, eval_every=config.train.epochs))


def second_run(config: Config, changes: Sequence[str]) -> Config:
    """The run that is to start from the weights of the first.

    Args:
        config: CONFIG.
        changes: ``section.key=value``.

    Raises:
        ConfigError: a change cannot be read, or gives the two runs other seeds or samples.
    """
    changed = config.overridden(changes)
    if (changed.seed, changed.dataset) != (config.seed, config.dataset):
        raise ConfigError(
            f"both runs have one validation set (given: --then {' '.join(changes)}, expected: the seed and the "
            "[dataset] of the config). Leave them as they are."
        )
    return changed


def errors_by_split(resolved: RunSpec, out: Path, data_root: Path) -> dict[str, float]:
    """Errors in percent of the output block with the weights that a run ended with, in evaluation mode.

    Args:
        resolved: the run.
        out: its folder.
        data_root: where data sets are.

    Returns:
        ``train``, ``validation`` and ``test``.
    """
    device, dataset, config = torch.device("cpu"), load_dataset(resolved.config, data_root), resolved.config
    states, found = load_blocks(latest_weights(out), chosen=True), {}
    for name, split in dataset.load_all()._asdict().items():
        network = WholeNetwork(resolved, config.train.epochs, states, device)  # anew: it counts all that it has scored
        batches = Batches(split, dataset=dataset, batch_size=resolved.batching.eval_batch_size, seed=config.seed,
                          device=device, train=False)  # fmt: skip
        accuracy = network.test(batches, resolved.batching.eval_passes, lambda block, h, y: None)[-1]
        assert accuracy is not None, "the last block decodes"
        found[name] = round(100.0 * (1.0 - accuracy), 4)
    return found


def main(arguments: Sequence[str]) -> int:
    """Exit status 0, or 2 for a config that is wrong; a run that fails raises."""
    parser = flags(__doc__)
    parser.add_argument("--then", action="append", default=[], metavar="KEY=VALUE", help="of the second run")
    return run_program("benchmarks.two_phases", parser, _run, arguments)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    config, root = load_config(options.config).config, options.data_root
    first, second = first_run(config), second_run(config, options.then)
    for chosen in (first, second):  # what is wrong with the second is told before the first begins
        resolve(chosen, root)
    torch.set_num_threads(max(1, config.run.threads))
    before = options.out.with_name(f"{options.out.name}-first")
    second = replace(second, train=replace(second.train, init_from=str(before)))
    found: dict[str, Any] = {}
    for name, chosen, out in (("first", first, before), ("second", second, options.out)):
        train(chosen, out=out, data_root=root, command=["-m", "benchmarks.two_phases", *arguments])
        found[name] = errors_by_split(resolve(chosen, root), out, root)
    result = json.loads((options.out / "result.json").read_text(encoding="utf8"))
    found["second"]["epoch"] = result["selection"]["epoch"] + 1
    write_json(options.out / RESULT, found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
