"""Scores a trained network on a data set, as its run did at the end of an epoch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Config
from pipeline.data.dataset import Dataset
from pipeline.data.task import Labels
from pipeline.data.windows import feed_of
from pipeline.engine.feeds import repeated
from pipeline.errors import ConfigError
from pipeline.network.from_modules import UserModel
from pipeline.places import default_data_root
from pipeline.resolve import load_dataset, task_of
from pipeline.trained.build import load
from pipeline.trained.network import TrainedNetwork
from pipeline.trained.sources import Run

__all__ = ["device_of", "evaluate", "score"]

_MAY_CHANGE = ("dataset.", "train.eval_batch_size", "run.device", "run.threads")


def evaluate(
    run: TrainedNetwork | Run | str | Path, *overrides: str, model: UserModel | None = None,
    data_root: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Scores the network of a run on the test samples of its data set, or of another one.

    A network is scored where it is, in its own numbers, and left as it was; a run's, where the run was. With nothing
    changed these are the figures of ``result.json``, on a processor like the run's.

    Args:
        run: its network, its folder, or a file that its network was saved to.
        overrides: ``dataset.name=...`` and the data set's options, ``train.eval_batch_size``, ``run.device``,
            ``run.threads``; what is not named is as it was in the run.
        model: see :func:`pipeline.trained.build.load`.
        data_root: where data sets are.

    Returns:
        ``accuracy`` (None of numbers), ``loss`` and further ``metrics`` by name of the network; ``blocks`` with
        ``block``, ``test_accuracy``, ``test_loss`` and ``test_metrics`` of each block's own decoder (None where there
        is none), and what its run says of that block: ``epochs_trained`` (0: frozen, its decoder guesses unless it was
        trained before) and ``init_from``, the run it started from, each None where it says nothing; ``samples``, and
        ``dataset``.

    Raises:
        ConfigError: see :func:`pipeline.trained.build.load`; or the data set does not fit, or is not there.
    """
    root = data_root or default_data_root()
    network = run if isinstance(run, TrainedNetwork) else load(run, model=model, data_root=root)
    config = _changed(network.recipe.config, overrides)
    dataset = load_dataset(config, root)
    _check_fits(network, dataset, config)
    is_moved = network is not run or any(override.startswith("run.device=") for override in overrides)
    with _placed(network, device_of(network, config)) if is_moved else nullcontext():
        rows = score(network, dataset, config)
    last = rows[-1]
    rows = [{**row, **_past(network.recipe.result, row["block"])} for row in rows]
    return {
        "accuracy": last["test_accuracy"], "loss": last["test_loss"], "metrics": last["test_metrics"], "blocks": rows,
        "samples": dataset.spec.num_test, "dataset": config.dataset.name,
    }  # fmt: skip


def _past(result: Mapping[str, Any], block: int) -> dict[str, Any]:
    """What the run says of a block. Args: what is in its ``result.json``, of an earlier version maybe less."""
    trained = {row.get("block"): row.get("epochs_trained") for row in result.get("blocks", ())}
    init = result.get("init_from", {})
    return {"epochs_trained": trained.get(block), "init_from": init["run"] if block in init.get("blocks", ()) else None}


def score(network: TrainedNetwork, dataset: Dataset, config: Config) -> list[dict[str, Any]]:
    """Accuracy and loss of every block on the test samples of a data set.

    Args:
        network: where its parameters are, it is scored.
        dataset: fits the network.
        config: says the size of a batch and the number of threads, 0 for those of the run.
    """
    like, passes = next(network.parameters()), network.recipe.config.train.eval_passes
    device = like.device
    size = min(config.train.eval_batch_size or config.train.batch_size, dataset.spec.num_test)
    test = feed_of(dataset.load()[1], dataset=dataset, batch_size=size, seed=config.seed, device=device, train=False)
    evaluation = network.evaluation(device)
    evaluation.chunking = dataset.spec.chunking
    with _evaluating(network), network.computing(device, config.run.threads):
        for index in range(test.num_batches):
            x, y = (repeated(t, passes) for t in test.batch(0, index))
            contexts = network.run(evaluation, x.to(like.dtype) if x.is_floating_point() else x, y, index)
            with network.rounding(device):
                evaluation.score(contexts, y, passes)
    count, readable = len(network.rules), network.recipe.has_readouts
    rows = [(k, evaluation.scores[k].read() if readable or k == count - 1 else None) for k in range(count)]
    return [
        {"block": k, "test_accuracy": row and row.get("test_accuracy"), "test_loss": row and row["test_loss"],
         "test_metrics": dict(row.get("test_metrics", {})) if row else {}}
        for k, row in rows
    ]


@contextmanager
def _evaluating(network: TrainedNetwork) -> Iterator[None]:
    """In evaluation mode; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


@contextmanager
def _placed(network: TrainedNetwork, device: torch.device) -> Iterator[None]:
    """On a device; afterwards where it was."""
    before = next(network.parameters()).device
    network.to(device)
    try:
        yield
    finally:
        network.to(before)


def _changed(config: Config, overrides: Sequence[str]) -> Config:
    """The run's config with what an evaluation may change.

    Raises:
        ConfigError: something else was to be changed.
    """
    for override in overrides:
        if not override.startswith(_MAY_CHANGE):
            raise ConfigError(
                f"an evaluation cannot change this (given: {override!r}, expected: dataset.key=value, or "
                f"{', '.join(_MAY_CHANGE[1:])}). Leave it out."
            )
    return config.overridden(overrides)


def _check_fits(network: TrainedNetwork, dataset: Dataset, config: Config) -> None:
    """Raises ConfigError unless a data set has samples and classes like those that the network was trained on; the
    last of the classes may be missing."""
    facts, spec = network.recipe.facts, dataset.spec
    task = facts.task
    assert task is not None, "a network that was built has one"
    found = spec.task
    with suppress(ConfigError):  # labels that the network's loss is none for
        found = task_of(config, found)
    least = task.num_outputs if found.labels is Labels.NUMBERS else 1  # a set may lack the last classes
    is_alike = type(found) is type(task) and found.positions == task.positions
    if spec.input_shape != facts.input_shape or not is_alike or not least <= found.num_outputs <= task.num_outputs:
        raise ConfigError(
            f"the data set does not fit the network (given: {config.dataset.name}, samples of shape "
            f"{spec.input_shape} and {spec.task.num_outputs} outputs; expected: {facts.input_shape} and "
            f"{task.num_outputs}). Name another one."
        )


def device_of(network: TrainedNetwork, config: Config) -> torch.device:
    """Where a network computes: as ``run.device`` says, else as the run did.

    Raises:
        ConfigError: there is no such device.
    """
    wanted, is_there = config.run.device, torch.cuda.is_available()
    if wanted == "auto":
        wanted = "cuda" if network.recipe.result.get("device") == "cuda" and is_there else "cpu"
    if wanted == "cuda" and not is_there:
        raise ConfigError("there is no CUDA device (given: run.device = 'cuda', expected: cpu). Choose --device cpu.")
    return torch.device(wanted)
