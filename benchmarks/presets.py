"""Workloads of the benchmarks: network, batch and data of each, and its arithmetic per sample.

Every arm builds its network from the blueprints of the same config, seed included, so that all arms train the very
same weights on the same samples in the same order.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

from torch import nn

from benchmarks.step_flop import step_flop
from pipeline.config import Config, NamedConfig, RunConfig, ScheduleConfig, TrainConfig, TransportConfig
from pipeline.network.block import Block, build_block
from pipeline.network.shapes import BlockShapes
from pipeline.numerics.wire_names import Wire
from pipeline.resolve import RunSpec, resolve

__all__ = [
    "PRESETS", "Precision", "Preset", "Product", "backprop_flop", "local_flop", "main_product", "products",
]  # fmt: skip

Precision = Literal["highest", "high", "medium"]

_NEVER = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One workload."""

    name: str
    model: NamedConfig
    sample_shape: tuple[int, ...]
    batch_size: int
    """Samples per update, the same in every arm."""
    num_samples: int
    """Size of the data set, which lies in memory: whole batches, about half a second of training at most."""
    microbatches: tuple[int, ...] = (2, 4, 8)
    """Micro-batches per batch of torch's schedules; each number is an arm."""
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Precision = "medium"
    """Precision of float32 products in every arm: the one under which backprop in one process is fastest here. oneDNN
    costs some 10 us a call, which small products do not earn back."""
    rule: str = "linear_decoder"
    """Learning rule of Onward's arms: linear_decoder, pred, aux, dfa, or dni with the labels."""
    dimdec: int | None = None
    """Features that the decoder of a convolutional block reads at most; None: the rule's default."""
    in_flight: int = 1
    """Batches in flight in Onward's arms, where the rule waits for feedback: at 1 its stages take turns."""
    channels_last: bool = False
    """Channels-last memory format in every arm, which is faster for all of them."""
    data: NamedConfig | None = None
    """Data set, whose samples lie in memory; None: noise of ``sample_shape``."""
    optimizer: NamedConfig = NamedConfig(name="adam", options={"lr": 1e-3})
    """Of every arm, and fused in every arm; adam or adamw."""

    def __post_init__(self) -> None:
        if self.num_samples % self.batch_size:
            raise ValueError(
                f"every step has a full batch (preset: {self.name}, samples: {self.num_samples}, batch: "
                f"{self.batch_size}). Make num_samples a multiple of batch_size."
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the samples."""
        return self.num_samples // self.batch_size

    def config(
        self,
        *,
        precision: Precision,
        mode: str = "parallel",
        partition: Sequence[int] = (1,),
        threads: int = 1,
        epochs: int = 1,
        microbatches: int = 0,
        wire: Wire = "same",
    ) -> Config:
        """Config of one of Onward's arms.

        Only the last epoch is evaluated, on two samples.

        Args:
            precision: of float32 products, see :class:`pipeline.config.RunConfig`.
            mode: parallel, or one of the baselines.
            partition: blocks of each stage; one stage hosts all, whatever is given.
            threads: compute threads of each stage.
            epochs: passes over the samples.
            microbatches: parts of a batch; 0: the mode's own.
            wire: format of activations between blocks.
        """
        named = self.data or NamedConfig(name="noise", options={"shape": list(self.sample_shape)})
        data = {**named.options, "num_train": self.num_samples, "num_test": 2}
        laid: Literal["parameters"] | list[int] = list(partition) if len(partition) > 1 else "parameters"
        return Config(
            model=self.model,
            dataset=NamedConfig(name=named.name, options=data),
            rule=self._rule(mode),
            optimizer=self.optimizer,
            train=TrainConfig(
                epochs=epochs, batch_size=self.batch_size, microbatches=microbatches,
                in_flight=self.in_flight if mode == "parallel" else 1,
                eval_every=_NEVER, eval_batch_size=2,
            ),
            schedule=ScheduleConfig(mode=mode),
            transport=TransportConfig(wire=wire),
            run=RunConfig(
                stages=len(partition), partition=laid, device=self.device, threads=threads,
                matmul_precision=precision, channels_last=self.channels_last, predict=False,
            ),
        )  # fmt: skip

    def _rule(self, mode: str) -> NamedConfig:
        """The rule of an arm."""
        if mode != "parallel":
            return NamedConfig(name="backprop")
        return NamedConfig(name=self.rule, options={} if self.dimdec is None else {"dimdec": self.dimdec})

    def on(self, device: Literal["cpu", "cuda"] | None) -> "Preset":
        """The same work on another device; None: as it is."""
        return self if device is None else dataclasses.replace(self, device=device)


def _mlp(depth: int, width: int, norm: str = "none") -> NamedConfig:
    return NamedConfig(name="mlp", options={"depth": depth, "width": width, "activation": "relu", "norm": norm})


def _vgg8b(width: float) -> NamedConfig:
    return NamedConfig(name="vgg8b", options={"width": width, "activation": "leaky_relu", "dropout": 0.0})



_ADAMW = NamedConfig(name="adamw", options={
    "lr": 3e-3, "betas": [0.9, 0.95], "weight_decay": 0.1, "decay_on": "matrices", "clip": 1.0,
})  # fmt: skip


def _language(name: str, layers_per_block: int) -> Preset:
    """A transformer of 8 layers on windows of 128 symbols, which stand for bytes.

    oneDNN gains a seventh in its linear layers, and makes torch's attention three to four times as slow.
    """
    sizes = {"depth": 8, "layers_per_block": layers_per_block, "width": 128, "heads": 4}
    data = NamedConfig(name="delayed_copy", options={"length": 128, "symbols": 255})
    return Preset(name=name, model=NamedConfig(name="transformer", options=sizes), sample_shape=(128,), batch_size=16,
                  num_samples=64, rule="aux", data=data, optimizer=_ADAMW, precision="highest")  # fmt: skip


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(name="mlp-8x1024", model=_mlp(8, 1024), sample_shape=(784,), batch_size=128, num_samples=2560),
        # The same with torch's default library for products, in all arms.
        Preset(name="mlp-8x1024-highest", model=_mlp(8, 1024), sample_shape=(784,), batch_size=128, num_samples=2560,
               precision="highest"),
        # 50 samples make neither 4 nor 8 equal parts, and torch's stages want equal ones: 5 is there in their place.
        Preset(name="mlp-8x128", model=_mlp(8, 128), sample_shape=(784,), batch_size=50, num_samples=10_000,
               microbatches=(2, 4, 5, 8), precision="highest"),
        # Direct feedback alignment on the same nets, a batch for every stage and hop on its way.
        Preset(name="dfa-8x1024", model=_mlp(8, 1024), sample_shape=(784,), batch_size=128, num_samples=2560,
               rule="dfa", in_flight=4),
        Preset(name="dfa-8x128", model=_mlp(8, 128), sample_shape=(784,), batch_size=50, num_samples=10_000,
               microbatches=(2, 4, 5, 8), precision="highest", rule="dfa", in_flight=4),
        # Synthetic gradients with the labels, the deepest net of their table: six layers.
        Preset(name="dni-6x256", model=_mlp(5, 256, "batch"), sample_shape=(784,), batch_size=128, num_samples=12_800,
               precision="highest", rule="dni", in_flight=4),
        Preset(name="vgg8b-quarter", model=_vgg8b(0.25), sample_shape=(3, 32, 32), batch_size=64, num_samples=320,
               channels_last=True),
        # Its decoders pooled to as many features as under pred, and pred itself.
        Preset(name="vgg8b-quarter-pooled", model=_vgg8b(0.25), sample_shape=(3, 32, 32), batch_size=64,
               num_samples=320, channels_last=True, dimdec=2048),
        Preset(name="vgg8b-quarter-pred", model=_vgg8b(0.25), sample_shape=(3, 32, 32), batch_size=64,
               num_samples=320, channels_last=True, rule="pred"),
        Preset(name="vgg8b", model=_vgg8b(1.0), sample_shape=(3, 32, 32), batch_size=128, num_samples=2560,
               device="cuda", channels_last=True),
        # A language model in blocks of one, two and four layers.
        _language("lm-s", 1),
        _language("lm-s-4", 2),
        _language("lm-s-2", 4),
        Preset(name="deep-thin", model=_mlp(32, 64), sample_shape=(784,), batch_size=50, num_samples=2500,
               microbatches=(2, 4, 5, 8), precision="highest"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A layer as one matrix product: (rows x inner) @ (inner x columns)."""

    rows: int
    inner: int
    columns: int

    @property
    def flop(self) -> int:
        """A multiplication and an addition for each of its terms."""
        return 2 * self.rows * self.inner * self.columns


def products(block: Block, shapes: BlockShapes) -> list[Product]:
    """The layers of a block for one sample; a convolution is the product of its unfolded patches with its weight.

    A convolution's outputs are counted on the map of the block's body, where every layer of ours that has one leaves
    it, and a linear layer's once for each position. Normalisation, activation, pooling, biases and the products of
    attention, which have no weights, are not counted.
    """
    found = []
    num_positions = shapes.body_shape[0] if len(shapes.body_shape) == 2 else 1
    for layer in block.modules():
        if isinstance(layer, nn.Linear):
            found.append(Product(num_positions, layer.in_features, layer.out_features))
        elif isinstance(layer, nn.Conv2d):
            positions = prod(shapes.body_shape[1:])
            found.append(Product(positions, layer.weight[0].numel(), layer.out_channels))
    return found


def local_flop(resolved: RunSpec) -> int:
    """Operations per sample of training by the config's own rule, decoders and synthesisers included."""
    return sum(step_flop(resolved)[0]) // resolved.microbatch_size


def backprop_flop(resolved: RunSpec) -> int:
    """Operations per sample of backpropagation: all three products, but for the gradient of the samples."""
    config = dataclasses.replace(resolved.config, rule=NamedConfig(name="backprop"))
    return local_flop(resolve(config, Path(tempfile.gettempdir())))


def main_product(resolved: RunSpec, batch_size: int) -> Product:
    """The product of a whole batch with the hidden layer that takes most of the arithmetic."""
    found = [p for block in _all_products(resolved)[1:-1] or _all_products(resolved) for p in block]
    largest = max(found, key=lambda p: p.flop)
    return Product(batch_size * largest.rows, largest.inner, largest.columns)


def _all_products(resolved: RunSpec) -> list[list[Product]]:
    blocks = [build_block(b, resolved.config.seed, k) for k, b in enumerate(resolved.blueprints)]
    return [products(block, shapes) for block, shapes in zip(blocks, resolved.shapes, strict=True)]
