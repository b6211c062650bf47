"""Alternating minimisation with a memory: a block's weights solve least squares over all pairs of codes seen so far."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from pipeline.learning.affine import layers_of
from pipeline.learning.codes import Alternating, CodeSearch
from pipeline.learning.dense import accumulate, check_plain
from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block
from pipeline.numerics.autocast import exact_product
from pipeline.ranges import Count, NonNegative, Positive, Range

__all__ = ["AlternatingMemory", "build"]


class AlternatingMemory(Alternating):
    """AM-mem: ``A <- (1 - eta) A + eta a^T a``, ``B <- (1 - eta) B + eta t^T a``, and sweeps of coordinate descent.

    ``a`` is the linear layer's input at the new code below, ``t`` the new code of its output; with eta = 0 both are
    sums over all samples so far. A sweep minimises ``|t - a W^T|^2`` by one column after another, ``W_j += (B_j - W
    A_j) / A_jj``; columns whose input has always been 0 stay. The memories begin at ``lambda I`` and ``lambda W``, so
    that the initial weights hold where few samples have been seen. What is left to the optimizer is the difference:
    give it ``sgd`` with a rate of 1, or less to go part of the way. The last block descends on the output loss, at
    ``output_rate`` times the run's rate. A bias is the column of an input that is always 1.

    Source: Choromanska et al., "Beyond Backprop: Online Alternating Minimization with Auxiliary Variables" (2019),
    algorithm 2, after Mairal et al. (2009). lambda, one sweep and the rate of the last block are choices: no run of it
    is published.

    Args:
        block: ends with one ``nn.Linear``; in front of it is nothing with parameters.
        spec: its place.
        search: options of the codes.
        forgetting: eta.
        prior: lambda.
        sweeps: over all columns, for each micro-batch.
        output_rate: factor on the last block's rate.

    Raises:
        ValueError: a hidden block is not of that form.
    """

    splits_batches = False
    max_in_flight = 1
    inputs: Tensor
    pairs: Tensor

    def __init__(
        self, block: Block, spec: BlockSpec, search: CodeSearch, *, forgetting: float, prior: float, sweeps: int,
        output_rate: float,
    ) -> None:  # fmt: skip
        super().__init__(block, spec, "am_mem", search)
        self.forgetting, self.sweeps, self.output_rate = forgetting, sweeps, output_rate
        if spec.is_last:
            return
        layers = layers_of(block)
        while layers and isinstance(layers[-1], nn.Identity):
            layers = layers[:-1]
        linear = layers[-1] if layers else None
        if not isinstance(linear, nn.Linear) or any(True for layer in layers[:-1] for _ in layer.parameters()):
            raise ValueError(
                f"am_mem solves for the weights of a linear map (given: a block of "
                f"{', '.join(type(layer).__name__ for layer in layers)}, expected: one nn.Linear at its end and no "
                "parameters in front of it). Take model.name = half_mlp with model.norm = none, or the rule am."
            )
        check_plain(linear, block, "am_mem")
        self.notes_batches = True
        self._layer = (linear,)  # not as a module of its own: the block's state has it
        self.has_bias = len([*linear.parameters()]) == 2
        weight = self._weight()
        self.register_buffer("inputs", prior * torch.eye(weight.shape[1]).to(weight))
        self.register_buffer("pairs", prior * weight)

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """See :class:`LearningRule`."""
        rate = self.output_rate if self.spec.is_last else 1.0
        return [([p for p in self.parameters() if p.requires_grad], rate)]

    def unsuited(self, optimizer: str, options: Mapping[str, Any]) -> str:
        """See :class:`LearningRule`: anything but plain descent makes other weights of ``W - W_new``."""
        changing = [name for name in ("momentum", "weight_decay") if options.get(name)]
        if self.spec.is_last or (optimizer == "sgd" and not changing):
            return ""
        given = f"name = {optimizer}" if optimizer != "sgd" else f"{changing[0]} = {options[changing[0]]}"
        return (
            f"the weights are not those that were solved for (given: optimizer.{given}, expected: optimizer.name = sgd "
            "without momentum and weight decay). Change it, with optimizer.lr = 1."
        )

    @property
    def linear(self) -> nn.Linear:
        """The layer that is solved for."""
        return self._layer[0]

    @torch.no_grad()
    def regress(
        self, code: Tensor, target: Tensor | None, y: Tensor, ran: tuple[tuple[Tensor, ...], Any], weight: float
    ) -> Tensor:
        """See :class:`Alternating`; hidden blocks leave ``W - W_new`` as their gradient, times ``weight``."""
        if target is None:
            return self.descend(code, target, y, ran, weight)
        rows = self.layers.again(code, ran[0], ran[1], up_to_last=True)
        if self.has_bias:
            rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        self._remember(rows.to(self.inputs.dtype), target.flatten(1).to(self.inputs.dtype))
        old = self._weight()
        difference = (old - swept(old, self.inputs, self.pairs, self.sweeps)) * weight
        for parameter, gradient in zip(self.linear.parameters(), self._columns(difference), strict=True):
            if parameter.requires_grad:
                accumulate(parameter, gradient)
        return self.distance(exact_product(rows.to(old.dtype), old.t()), target.flatten(1)) / len(y)

    def _weight(self) -> Tensor:
        """The weight, and behind it the bias as a column."""
        weight = self.linear.weight.detach()
        return torch.cat([weight, self.linear.bias.detach().unsqueeze(1)], 1) if self.has_bias else weight

    def _columns(self, matrix: Tensor) -> list[Tensor]:
        """The parts of such a matrix."""
        return [matrix[:, :-1].contiguous(), matrix[:, -1].contiguous()] if self.has_bias else [matrix]

    def _remember(self, rows: Tensor, target: Tensor) -> None:
        """Add a batch of pairs to the memories."""
        keep, add = (1.0 - self.forgetting, self.forgetting) if self.forgetting else (1.0, 1.0)
        self.inputs.mul_(keep).addmm_(rows.t(), rows, alpha=add)
        self.pairs.mul_(keep).addmm_(target.t(), rows, alpha=add)


def swept(weight: Tensor, inputs: Tensor, pairs: Tensor, sweeps: int = 1) -> Tensor:
    """Coordinate descent on ``trace(W A W^T - 2 B W^T)``, a column of W at a time.

    One sweep is a triangular solve: a column sees the new ones before it and the old ones behind it.

    Args:
        weight: W, (out, in).
        inputs: A, (in, in), symmetric.
        pairs: B, (out, in).
        sweeps: number of them.
    """
    unseen = inputs.diagonal() <= 0.0
    triangle = inputs.triu() + torch.diag_embed(unseen.to(inputs.dtype))
    below = inputs.tril(-1)
    for _ in range(sweeps):
        right = torch.where(unseen, weight, pairs - exact_product(weight, below))
        weight = torch.linalg.solve_triangular(triangle, right, upper=True, left=False)
    return weight


def build(
    block: Block,
    spec: BlockSpec,
    *,
    search: CodeSearch = CodeSearch(),
    forgetting: Annotated[float, Range(0, 1, below=True)] = 0.0,
    prior: NonNegative = 10.0,
    sweeps: Count = 1,
    output_rate: Positive = 0.1,
) -> LearningRule:
    """Make the rule of one block; see :class:`AlternatingMemory`.

    Distances are sums over features unless ``search`` says means: least squares scale no small move of a code up.

    Args:
        forgetting: eta: share of the newest batch in the memories; 0 for sums.
        prior: lambda: samples that the initial weights count for.
        sweeps: of coordinate descent for each batch.
        output_rate: factor on the learning rate of the last block.
    """
    return AlternatingMemory(
        block, spec, search.of_sums(), forgetting=forgetting, prior=prior, sweeps=sweeps, output_rate=output_rate
    )
