"""Network, optimizer and batches of the arms that are not Onward's: the same as those of Onward's arms."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.arms.job import ArmJob
from pipeline.data.batches import epoch_order
from pipeline.network.block import build_block
from pipeline.resolve import RunSpec, load_dataset, resolve

__all__ = ["ArmBatches", "Synchronise", "UsersOptimizer", "blocks_of", "resolved_work"]


def resolved_work(job: ArmJob) -> RunSpec:
    """The job's config, checked; noise needs no folder."""
    return resolve(job.preset.config(precision=job.precision), Path(tempfile.gettempdir()))


class _Maps(nn.Module):
    """Lays maps out in one memory format; anything else passes."""

    def __init__(self, memory_format: torch.memory_format) -> None:
        super().__init__()
        self._memory_format = memory_format

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            return x
        if x.requires_grad:  # the gradient that is sent back has to be contiguous as well
            x.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
        return x.contiguous(memory_format=self._memory_format)


def blocks_of(resolved: RunSpec, blocks: range, device: torch.device) -> nn.Sequential:
    """Some blocks with their initial weights, one after another, in the run's memory format.

    What enters and leaves is contiguous: torch's pipelines send what is.
    """
    seed = resolved.config.seed
    layers: list[nn.Module] = [build_block(resolved.blueprints[k], seed, k) for k in blocks]
    if not resolved.config.run.channels_last:
        return nn.Sequential(*layers).to(device)
    ends = _Maps(torch.channels_last), _Maps(torch.contiguous_format)
    net = nn.Sequential(ends[0], *layers, ends[1]).to(device)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class UsersOptimizer:
    """torch's own fused Adam or AdamW, as a user of torch would choose it, with what the run asks of every arm: decay
    of matrices alone, and a bound on the norm of each block's gradients.

    Args:
        resolved: the work.
        blocks: the network, or a stage of it.
    """

    def __init__(self, resolved: RunSpec, blocks: nn.Sequential) -> None:
        spec = resolved.optimizer
        kind = torch.optim.AdamW if spec.name == "adamw" else torch.optim.Adam
        parameters = list(blocks.parameters())
        groups: list[dict[str, Any]] = [{"params": parameters}]
        if spec.decay_on == "matrices":
            groups = [{"params": [p for p in parameters if p.dim() > 1]},
                      {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0}]  # fmt: skip
        self._optimizer = kind([g for g in groups if g["params"]], **spec.options, fused=True)
        self._clip, self._blocks = spec.clip, list(blocks)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Bounds the gradients, and steps."""
        if self._clip:
            for block in self._blocks:
                nn.utils.clip_grad_norm_(block.parameters(), self._clip, foreach=True)
        self._optimizer.step()


class ArmBatches:
    """Batches out of memory, gathered anew each step, in the order of :class:`pipeline.data.batches.Batches`.

    Args:
        resolved: the work.
        device: where the samples lie.
        part, parts: which of how many equal parts of every batch is taken.
    """

    def __init__(self, resolved: RunSpec, device: torch.device, part: int = 0, parts: int = 1) -> None:
        split = load_dataset(resolved.config, Path(tempfile.gettempdir())).load()[0]
        self.batch_size = resolved.batching.batch_size
        self._x, self._y = split.x.to(device), split.y.to(device)
        share = self.batch_size // parts
        self._slice = slice(part * share, (part + 1) * share)
        self._seed = resolved.config.seed
        self._steps = resolved.batching.num_steps
        self._step = 0
        self._order = torch.empty(0, dtype=torch.int64)

    def advance(self) -> Tensor:
        """Goes on to the next batch; the indices of its samples, (batch,)."""
        epoch, index = divmod(self._step, self._steps)
        if index == 0:
            self._order = epoch_order(self._seed, epoch, len(self._y)).to(self._y.device)
        self._step += 1
        return self._order[index * self.batch_size : (index + 1) * self.batch_size][self._slice]

    def inputs(self, chosen: Tensor) -> Tensor:
        """(batch, ...)."""
        return self._x.index_select(0, chosen)

    def labels(self, chosen: Tensor) -> Tensor:
        """(batch,)."""
        return self._y.index_select(0, chosen)


class Synchronise:
    """Waits until a CUDA device has done everything; nothing on CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
