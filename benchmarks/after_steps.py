"""A run, and its test error after every optimizer step that it wrote down.

    python -m benchmarks.after_steps --config CONFIG --out DIR [--data-root DIR]

``[snapshot]`` in the config says which steps, and must keep them all; ``after_steps.json`` in the run's folder has the
errors. They are found behind the run, from the snapshots, so that the run itself is like any other.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.cell_program import flags, run_program
from pipeline.config import load_config
from pipeline.measure.samples import load_samples
from pipeline.measure.whole_network import WholeNetwork
from pipeline.records.files import write_json
from pipeline.records.snapshots import complete_snapshots
from pipeline.records.weights import load_blocks
from pipeline.resolve import RunSpec, resolve
from workers import train

__all__ = ["RESULT", "errors_after_steps"]

RESULT = "after_steps.json"


def errors_after_steps(resolved: RunSpec, out: Path, data_root: Path) -> dict[int, float]:
    """Test error in percent of the output block by the number of steps, from every snapshot of a run's folder."""
    device, found = torch.device("cpu"), {}
    test = load_samples(resolved, data_root, device).test
    for folder in reversed(complete_snapshots(out)):
        network = WholeNetwork(resolved, 1, load_blocks(folder), device)
        accuracy = network.test(test, resolved.batching.eval_passes, lambda block, h, y: None)[-1]
        assert accuracy is not None, "the last block decodes"
        found[int(folder.name.removeprefix("step-"))] = round(100.0 * (1.0 - accuracy), 4)
    return found


def main(arguments: Sequence[str]) -> int:
    """Exit status 0, or 2 for a config that is wrong; a run that fails raises."""
    return run_program("benchmarks.after_steps", flags(__doc__), _run, arguments)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    config = load_config(options.config).config
    train(config, out=options.out, data_root=options.data_root, command=["-m", "benchmarks.after_steps", *arguments])
    torch.set_num_threads(max(1, config.run.threads))
    errors = errors_after_steps(resolve(config, options.data_root), options.out, options.data_root)
    write_json(options.out / RESULT, {str(step): error for step, error in errors.items()})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
