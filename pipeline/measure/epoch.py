"""Measurements at the end of an epoch, from the weights that the stages kept.

They are made after the run, in one process and from files: they cost the run only the time to write these, and cannot
depend on the number of stages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.measure.angles import Angles, angles
from pipeline.measure.decision_map import DecisionMap, extent_of
from pipeline.measure.linear_probe import LinearProbe
from pipeline.measure.neighbours import neighbours_accuracy
from pipeline.measure.samples import load_samples
from pipeline.measure.tsne import embed
from pipeline.measure.updates import Weights, relative_updates
from pipeline.measure.whole_network import WholeNetwork
from pipeline.numerics.seeds import derive
from pipeline.resolve import RunSpec

__all__ = ["Measurement", "with_credit"]

_DRY = 2
"""Number of samples of the batch that shows which blocks have a decoder."""

States = Sequence[Mapping[str, Tensor]]


class Measurement:
    """Measures a run epoch by epoch, and collects the arrays of its maps and t-SNE layouts.

    Args:
        resolved: the run, with the blueprints of all blocks.
        data_root: folder of all data sets.
        device: device to compute on.
    """

    def __init__(self, resolved: RunSpec, data_root: Path, device: torch.device) -> None:
        self._resolved, self._device = resolved, device
        self._samples = load_samples(resolved, data_root, device)
        self._maps: dict[int, DecisionMap] = {}
        self._layouts: dict[int, Tensor] = {}
        self._before: Weights | None = None

    def epoch(self, number: int, states: States | None, *, layout: bool) -> dict[str, Any]:
        """Measure one epoch.

        Args:
            number: number of epochs that the network has been trained for.
            states: states of all blocks then; None for the initial weights.
            layout: True computes t-SNE layouts, which takes seconds per block.

        Returns:
            ``epoch``, ``angle_deg`` (degrees) and ``blocks``, a row for each: ``block``, ``angle_deg``,
            ``test_accuracy`` of its own decoder, ``readout_accuracy`` of a linear probe where it has none, ``update``
            since the measurement before, ``neighbours_accuracy`` in its layout. None where there is no value.
        """
        measure = self._resolved.config.measure
        network = WholeNetwork(self._resolved, number, states, self._device)
        count = network.num_blocks
        none: list[float | None] = [None] * count
        own = read = update = near = none
        if measure.accuracies or measure.maps:
            probes = self._probes(network)
            if measure.accuracies:
                own, read = self._accuracies(network, probes)
            if measure.maps:
                self._maps[number] = self._map(network, probes)
        if layout and measure.tsne:
            self._layouts[number] = self._layout(network)
            near = self._neighbours(self._layouts[number], count)
        if measure.updates:
            now = network.weights()
            update, self._before = relative_updates(self._before, now), now
        angle = angles(network, *self._samples.batch) if measure.angles else Angles(none, None)
        rows = [
            {"block": k, "angle_deg": angle.blocks[k], "test_accuracy": own[k], "readout_accuracy": read[k],
             "update": update[k], "neighbours_accuracy": near[k]}
            for k in range(count)
        ]  # fmt: skip
        return {"epoch": number, "angle_deg": angle.whole, "blocks": rows}

    def arrays(self) -> dict[str, dict[str, Tensor]]:
        """Arrays by file, ``maps`` and ``tsne`` as far as they were asked for; float32, int64."""
        files: dict[str, dict[str, Tensor]] = {}
        if self._maps:
            x, y = self._samples.fit
            across, up = extent_of(x).axes()
            files["maps"] = {
                "epochs": torch.tensor(list(self._maps)), "x_axis": across, "y_axis": up,
                "values": torch.stack([m.values for m in self._maps.values()]),
                "levels": torch.stack([m.levels for m in self._maps.values()]), "points": x.cpu(), "labels": y.cpu(),
            }  # fmt: skip
        if self._layouts:
            files["tsne"] = {
                "epochs": torch.tensor(list(self._layouts)),
                "blocks": torch.tensor(self._resolved.config.measure.tsne),
                "points": torch.stack(list(self._layouts.values())), "labels": self._samples.shown[1].cpu(),
            }  # fmt: skip
        return files

    def _probes(self, network: WholeNetwork) -> dict[int, LinearProbe]:
        """Fit a linear probe to every block without a decoder."""
        x, y = self._samples.fit
        decoded = network.look(x[:_DRY], y[:_DRY])
        targets = self._resolved.specs[-1].task.targets(y)
        probes: dict[int, LinearProbe] = {}

        def fit(block: int, out: Tensor) -> None:  # as it passes: activations of one block at a time
            if decoded[block] is None:
                probes[block] = LinearProbe.fit(out, targets)

        network.look(x, y, fit)
        return probes

    def _accuracies(
        self, network: WholeNetwork, probes: Mapping[int, LinearProbe]
    ) -> tuple[list[float | None], list[float | None]]:
        """Test accuracies of all blocks: of their own decoders, and of the linear probes."""
        test, passes = self._samples.test, self._resolved.batching.eval_passes
        task = self._resolved.specs[-1].task
        right = dict.fromkeys(probes, 0)

        def score(block: int, out: Tensor, y: Tensor) -> None:
            if block in probes:
                scores = probes[block](out).view(passes, len(y) // passes, -1).mean(0)
                right[block] += int(task.num_correct_decoded(scores, y[: len(scores)]))

        own = network.test(test, passes, score)
        return own, [right[k] / test.num_samples if k in right else None for k in range(network.num_blocks)]

    def _map(self, network: WholeNetwork, probes: Mapping[int, LinearProbe]) -> DecisionMap:
        """Decision maps of all blocks, by their decoders or the linear probes."""
        x, y = self._samples.fit

        def values(points: Tensor) -> list[Tensor]:
            """Scores at ``points``, (points, features), of each block: of its decoder, or else of its probe."""
            read: dict[int, Tensor] = {}
            decoded = network.look(
                points, torch.zeros_like(points[:, 0], dtype=torch.int64), lambda k, out: _read(probes, k, out, read)
            )
            return [read[k] if scores is None else scores.double() for k, scores in enumerate(decoded)]

        return DecisionMap.of(values, extent_of(x), x, y)

    def _layout(self, network: WholeNetwork) -> Tensor:
        """t-SNE layouts of the blocks of ``measure.tsne``, (blocks, samples, 2)."""
        wanted = self._resolved.config.measure.tsne
        outs: dict[int, Tensor] = {}

        def keep(block: int, out: Tensor) -> None:
            if block in wanted:
                outs[block] = out

        network.look(*self._samples.shown, keep)
        return torch.stack([embed(outs[k], derive(self._resolved.config.seed, "tsne", k)) for k in wanted])

    def _neighbours(self, layouts: Tensor, num_blocks: int) -> list[float | None]:
        """Accuracies of the neighbours' vote by block; None of blocks that are not laid out."""
        found: list[float | None] = [None] * num_blocks
        labels = self._samples.shown[1].cpu()
        for block, points in zip(self._resolved.config.measure.tsne, layouts, strict=True):
            found[block] = neighbours_accuracy(points, labels)
        return found


def _read(probes: Mapping[int, LinearProbe], block: int, out: Tensor, read: dict[int, Tensor]) -> None:
    """Put the scores of the block's linear probe, if it has one, into ``read``."""
    if block in probes:
        read[block] = probes[block](out)


def with_credit(row: Mapping[str, Any], trained: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Add the epoch's depth of credit assignment to a measured row.

    Args:
        row: from :meth:`Measurement.epoch`.
        trained: each block's row of the epoch that has just ended, by block; empty before the first.

    Returns:
        The row with ``credit`` in every block's, the share of samples that it was updated for, and their sum
        ``depth_of_credit``, the mean number of blocks updated for a sample; None where no block counts it.
    """
    credits = [trained.get(b["block"], {}).get("credit") for b in row["blocks"]]
    known = [c for c in credits if c is not None]
    blocks = [{**b, "credit": c} for b, c in zip(row["blocks"], credits, strict=True)]
    return {**row, "blocks": blocks, "depth_of_credit": sum(known) if known else None}
