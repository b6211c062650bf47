"""The network that a run has trained, as one module of torch."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.blocks import names_of, of_block
from pipeline.engine.evaluation import Evaluation
from pipeline.engine.feeds import repeated
from pipeline.engine.wires import rounded_input, wires_between
from pipeline.learning.rule import LearningRule, Topology
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli
from pipeline.numerics.autocast import autocast
from pipeline.numerics.compute import compute_as
from pipeline.numerics.memory_format import laid_out
from pipeline.records.files import jsonable, whole_file
from pipeline.records.tensor_file import pack
from pipeline.trained.recipe import FORMAT, OWN, Recipe

__all__ = ["Readout", "TrainedNetwork"]


class TrainedNetwork(nn.Sequential):
    """The network of a run, in evaluation mode: what it computes are the bits that the run evaluated.

    Its children are the user's own under their names, or the blocks of a model of this project. In evaluation mode it
    computes with as many threads and in the number formats of the run, and draws what the run drew. It has a graph
    unless ``torch.no_grad()`` says otherwise, or the network draws samples or settles, or a rule of one's own does not
    say by ``propagate`` what its forward pass does. A product may round a row differently in a batch of another size:
    the bits are those of batches of ``train.eval_batch_size``. In training mode it runs as torch's own modules do, for
    whoever wants to train it further.

    Args:
        layers: its children, by name.
        rules: of its blocks, which hold the same layers, their weights set.
        recipe: how the run has built it.
    """

    def __init__(self, layers: Mapping[str, nn.Module], rules: Sequence[LearningRule], recipe: Recipe) -> None:
        super().__init__()
        self._modules.update(layers)
        self._rules = tuple(rules)  # not registered: names and weights of this module are those of the network
        self.recipe = recipe
        config = recipe.config
        self._wires = wires_between(config.transport, len(rules), rules[-1].spec.task)
        if self._wires is not None:
            for k in self._wires.cuts:
                self._rules[k].register_forward_pre_hook(partial(rounded_input, self._wires))
        draws = any(isinstance(m, Bernoulli) for rule in rules for m in rule.modules())
        self._is_chain = not draws and not (self._settles and rules[0].settles_in_evaluation)
        self._is_propagated = True
        for rule in rules:
            rule.eval()
        self.eval()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks, over the network's own layers: each maps the output of the one before it, (batch, ...)."""
        return tuple(rule.block for rule in self._rules)

    @property
    def rules(self) -> tuple[LearningRule, ...]:
        """The blocks under their rules."""
        return self._rules

    def readout(self, block: int) -> "Readout":
        """The scores of a block's own decoder, as a module, without a graph: (batch, *positions, num_outputs).

        Args:
            block: its index; negative ones count from the last block, whose scores are the network's.

        Raises:
            ValueError: there is no such block, or no decoder.
        """
        count = len(self._rules)
        if not -count <= block < count:
            raise ValueError(f"no such block (given: {block}, expected: 0 to {count - 1}). Name another one.")
        index = block % count
        x = self._zeros()
        if index < count - 1 and not self.recipe.has_readouts:
            raise ValueError(
                f"the decoder of block {index} is not there (given: a network that was saved without). Load it from "
                "the folder of its run, or save it with readouts=True."
            )
        if self.decoded(x)[index] is None:
            name = of_block(self.recipe.config.rule, index, count, "rule").name
            raise ValueError(
                f"the block has no decoder of its own (given: block {index} under {name}). "
                f"Read that of the last one, {count - 1}."
            )
        return Readout(self, index)

    def forward(self, x: Tensor, index: int = 0) -> Tensor:
        """The scores of a batch.

        Args:
            x: (batch, *input_shape), normalised as the run's data set is, or tokens.
            index: of the batch: a network that draws samples draws the same for it every time.

        Returns:
            (batch, *positions, num_outputs).

        Raises:
            TypeError: it is to be trained, and a rule of one's own does not say what its forward pass does.
        """
        if self.training:
            if not self._is_propagated:
                raise TypeError(
                    f"the rule does not say what its forward pass does (given: {type(self._rules[0]).__name__} without "
                    "a propagate of the same output). Define it, or train by the rule."
                )
            return self._chained(x)
        if self._is_chain and torch.is_grad_enabled():
            with self.computing(x.device):
                return self._chained(x, self.evaluation(x.device), index)
        scores = self.decoded(x, index)[-1]
        assert scores is not None, "the last block has the network's output"
        return scores

    @torch.no_grad()
    def decoded(self, x: Tensor, index: int = 0) -> list[Tensor | None]:
        """The scores of every block's own decoder, (batch, *positions, num_outputs); None where a block has none.

        Args:
            x, index: see :meth:`forward`.
        """
        passes = self.recipe.config.train.eval_passes
        task = self._rules[-1].spec.task
        y = torch.zeros(len(x) * passes, *task.label_shape, dtype=task.label_dtype, device=x.device)
        with self.computing(x.device), self.rounding(x.device):
            contexts = self.run(self.evaluation(x.device), repeated(x, passes), y, index)
            found = [rule.decode(contexts[k]) for k, rule in enumerate(self._rules)]
            return [
                scores if scores is None or passes == 1 else rule.averaged(scores.view(passes, -1, *scores.shape[1:]))
                for rule, scores in zip(self._rules, found, strict=True)
            ]

    def evaluation(self, device: torch.device) -> Evaluation:
        """The run's own evaluation, of all blocks, its scores empty."""
        config = self.recipe.config
        rules = dict(enumerate(self._rules))
        evaluation = Evaluation(rules, config.seed, device, channels_last=config.run.channels_last)
        evaluation.begin_epoch(range(len(rules)))
        return evaluation

    def run(self, evaluation: Evaluation, x: Tensor, y: Tensor, index: int) -> dict[int, Any]:
        """Runs a test batch forward, and settles it where the rule does. Returns: contexts, by block."""
        with torch.no_grad(), self.rounding(x.device):
            _, contexts = evaluation.forward(x, y, index)
            if self._settles:
                settling = evaluation.settling(contexts)
                for number in range(settling.num_rounds):
                    settling.round(number, (), ())
        return contexts

    @contextmanager
    def computing(self, device: torch.device, threads: int = 0) -> Iterator[None]:
        """The threads and number formats of the run; the caller's random numbers are left as they are. Args: threads,
        in place of the run's where not 0."""
        precision = self.recipe.config.run.matmul_precision
        devices = [device] if device.type == "cuda" else []
        with compute_as(threads or self.recipe.threads, precision, device), torch.random.fork_rng(devices):
            yield

    def rounding(self, device: torch.device) -> AbstractContextManager[object]:
        """The precision of the run: autocast, or none."""
        return autocast(device) if self.recipe.config.run.autocast != "none" else nullcontext()

    def save(self, path: str | Path, *, readouts: bool = False) -> Path:
        """Writes the network to one file of safetensors, whole or not at all; ``load`` and any library read it.

        Its tensors have the names of :meth:`state_dict`; config, result and what the network takes are its metadata.

        Args:
            path: of the file; one that is there is replaced.
            readouts: also the decoders of the blocks and whatever else belongs to their rules, under names of their
                own, which other modules do not know.

        Raises:
            OSError: the disk refuses.
            ValueError: the decoders are not there.
        """
        recipe, path = self.recipe, Path(path)
        if readouts and not recipe.has_readouts:
            raise ValueError(
                "the decoders are not there (given: readouts=True of a network that was saved without). Load it from "
                "the folder of its run."
            )
        about = {
            "format": FORMAT, "config": recipe.config.to_dict(), "network": recipe.facts.to_dict(),
            "result": recipe.result, "threads": recipe.threads, "readouts": readouts, "torch": torch.__version__,
        }  # fmt: skip
        with whole_file(path) as part, part.open("wb") as file:
            pack({**self.state_dict(), **self._own(whole=readouts)}, jsonable(about)).write(file)
        return path

    def _own(self, *, whole: bool) -> dict[str, Tensor]:
        """What belongs to the rules and not to the network: all of it, or what the network's output depends on."""
        return {
            f"{OWN}/{k}/{name}": tensor
            for k, rule in enumerate(self._rules)
            if whole or self.needs_own(rule)
            for name, tensor in rule.state_dict().items() if not name.startswith("block.")
        }  # fmt: skip

    def needs_own(self, rule: LearningRule) -> bool:
        """The network's output depends, or may depend, on what belongs to a rule and not to its block."""
        return self._settles or not _is_known(rule) or type(rule).propagate is not LearningRule.propagate

    @torch.no_grad()
    def check_chain(self) -> None:
        """Has scores without a graph where rules of one's own give others than their blocks, as two samples show."""
        if not self._is_chain or all(map(_is_known, self._rules)):
            return
        x = self._zeros()
        if x.is_floating_point():
            x = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
        with self.computing(x.device):
            scores = self._chained(x, self.evaluation(x.device))
        found = self.decoded(x)[-1]
        self._is_chain = self._is_propagated = found is not None and torch.equal(scores, found)

    def _zeros(self) -> Tensor:
        """Two samples of zeros, or of the first token."""
        facts, like = self.recipe.facts, next(self.parameters())
        dtype = like.dtype if facts.input_dtype.is_floating_point else facts.input_dtype
        return torch.zeros(2, *facts.input_shape, dtype=dtype, device=like.device)

    @property
    def _settles(self) -> bool:
        """Blocks exchange messages with their neighbours."""
        return self._rules[0].topology is Topology.SETTLE

    def _chained(self, x: Tensor, evaluation: Evaluation | None = None, index: int = 0) -> Tensor:
        """The blocks one after another, with a graph. Args: evaluation, which seeds what they draw."""
        with self.rounding(x.device):
            for k, rule in enumerate(self._rules):
                if evaluation is not None:
                    evaluation.seed(k, index)
                if self._wires is not None:
                    x = self._wires.passed(k, x)
                x = rule.propagate(laid_out(x, maps_last=self.recipe.config.run.channels_last))
        return x

    def _apply(self, fn: Any, recurse: bool = True) -> "TrainedNetwork":
        """Moves or converts the rules with the network."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for rule in self._rules:
            rule._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def __getitem__(self, index: Any) -> Any:
        """A child, or several as an ``nn.Sequential`` under their names."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def extra_repr(self) -> str:
        """What it comes from."""
        config = self.recipe.config
        return json.dumps({"rule": names_of(config.rule), "dataset": config.dataset.name})


def _is_known(rule: LearningRule) -> bool:
    """It is one of this project's, whose ``propagate`` is tested."""
    return type(rule).__module__.startswith("pipeline.")


class Readout(nn.Module):
    """A block's own decoder behind the blocks below it; see :meth:`TrainedNetwork.readout`."""

    def __init__(self, network: TrainedNetwork, block: int) -> None:
        super().__init__()
        self.network, self.block = network, block

    def forward(self, x: Tensor, index: int = 0) -> Tensor:
        """See :meth:`TrainedNetwork.forward`."""
        scores = self.network.decoded(x, index)[self.block]
        assert scores is not None, "asked for where it was made"
        return scores
