"""Equilibrium propagation: states settle freely, then nudged, and weights learn from the difference (Scellier 2017)."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pipeline.learning.dense import accumulate
from pipeline.learning.plain_dense import PlainDense
from pipeline.learning.relaxation import Relaxation
from pipeline.learning.rule import BlockSpec, Learned, LearningRule, Topology
from pipeline.network.block import Block
from pipeline.network.hard_units import NonDifferentiable
from pipeline.ranges import Positive

__all__ = ["EquilibriumPropagation", "build"]

Tensors = tuple[Tensor, ...]
_CHANGED = (_DropoutNd, _BatchNorm, nn.RReLU)
"""Units that are another function in every call, or in training."""


@dataclass
class _End:
    """Where a phase has ended, (batch, features) each."""

    state: Tensor
    rows: Tensor
    """The state below."""
    above: Tensors
    """What came from above; kept of the free phase, where a nudged one begins."""


@dataclass
class _States:
    """A micro-batch while it settles."""

    rows: Tensor
    """The first block's input, (batch, features), the same in every round; empty in the others."""
    drive: Tensor
    """``rows W^T + b``, likewise."""
    answer: Tensor
    """What the last block decodes: its output, then its free state."""
    state: Tensor
    """(batch, units)."""
    y: Tensor
    beta: float
    """With the sign of this batch."""
    free_rounds: int
    samples: Tensor | None
    """Where free states are kept; None keeps them nowhere."""
    ends: list[_End] = field(default_factory=list)
    """Of the free phase, and of each nudged one."""


class EquilibriumPropagation(LearningRule):
    """Equilibrium propagation: block l has a state ``s_l`` for each sample, ``s_0 = x``, and all relax together.

    With ``u_l = s_(l-1) W_l^T + b_l + s_(l+1) W_(l+1)``, all from the round before, a round of the prototypical form is
    ``s_l <- f(u_l)``, f the block's own unit. Where the top is nudged, ``beta (y - s_L)`` is added to ``u_L``: towards
    a lower ``1/2 |s_L - y|^2``. Of the energy-based form it is ``s_l <- clip(s_l + eps (u_l - s_l))`` to [0, 1], the
    top nudged by ``2 beta (y - s_L)`` towards a lower ``|s_L - y|^2``: descent on the energy. Its states stay in
    [0, 1], where rho is the identity and rho' is 1, at both ends too, or from 0 nothing would ever move. Those of the
    prototypical form are in the range of f: behind a unit without bounds, as relu, they may grow in every round.

    A free phase leads to ``s^0``, a nudged one from there to ``s^beta``, under ``symmetric`` another one from there to
    ``s^-beta``. ``G_W = -(1/beta) (s_l^beta s_(l-1)^beta - s_l^0 s_(l-1)^0)``, an outer product and a mean over the
    batch; under ``symmetric`` between both nudges, over ``2 beta``. b likewise. Weights stand still meanwhile.

    Prediction is the top's free state. A training sample starts at 0, or with ``persistent`` where its last free phase
    ended; a test sample at 0. A batch without a note, as angles are measured on, starts and settles as a test sample
    does, and is nudged by beta. All is in float32, under autocast too, for the difference is divided by beta.

    Source: Scellier and Bengio, "Equilibrium Propagation: Bridging the Gap between Energy-Based Models and
    Backpropagation" (2017), sections 2 and 5; Ernoult et al., "Updates of Equilibrium Prop Match Gradients of Backprop
    Through Time in an RNN with Static Input" (2019), the prototypical form; Laborieux et al., "Scaling Equilibrium
    Propagation to Deep ConvNets by Drastically Reducing its Gradient Estimator Bias" (2021), both signs.

    Args:
        block: a linear layer and at most one unit behind it; without one, f is clip to [0, 1].
        spec: its place.
        relaxation: of the run.
        rate: factor on the learning rate.

    Raises:
        ValueError: a block of another form, a unit that does not suit the form, or nothing to keep states of.
    """

    topology = Topology.SETTLE
    states: Tensor

    def __init__(self, block: Block, spec: BlockSpec, relaxation: Relaxation, rate: float) -> None:
        super().__init__(block, spec)
        self._dense = PlainDense(block, spec, "eqprop")
        unit = self._dense.unit
        self.is_energy = relaxation.form == "energy"
        _check_unit(unit if self._dense.g is None else self._dense.g, self.is_energy)
        self._unit = nn.Hardtanh(0.0, 1.0) if isinstance(unit, nn.Identity) else unit
        self.relaxation = relaxation
        self._rate = rate
        self.draws, self.takes_unit_interval = False, self.is_energy
        self.asks_for_note = relaxation.persistent or relaxation.nudging == "random_sign"
        self.notes_batches = relaxation.persistent
        self._free_rounds = relaxation.free_rounds
        if relaxation.persistent:
            self.register_buffer("states", torch.zeros(_kept(spec), *spec.out_shape))

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """See :class:`LearningRule`."""
        return [([p for p in self.parameters() if p.requires_grad], self._rate)]

    @property
    def num_rounds(self) -> int:
        """See :class:`LearningRule`. In the first all say where they begin, and training ends with one in which they
        hear where the others have ended."""
        s = self.relaxation
        return self._free_rounds + s.num_nudges * s.nudged_rounds + 2 if self.training else s.num_tested + 1

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Any]:
        """See :class:`LearningRule`. The activation is the block's output, and no state depends on it."""
        note, self.batch_note = self.batch_note if self.training else None, None
        s = self.relaxation
        is_new = note is None and (s.persistent or not self.training)  # tested, or measured
        free = s.num_tested if is_new else s.free_rounds
        self._free_rounds = free if self.training else self._free_rounds
        with _exact(x):
            drive, z = self._dense.forward(x)
        is_against = note is not None and s.nudging == "random_sign" and note.seed % 2 == 1
        samples = note.samples if note is not None and s.persistent else None
        state = torch.zeros_like(z) if samples is None else self.states.index_select(0, samples)
        beta = -s.beta if is_against else s.beta
        rows, drive = (x.flatten(1), drive) if self.spec.is_first else (x.new_empty(0), x.new_empty(0))
        return z, _States(rows, drive, z, state, y, beta, free, samples)

    @torch.no_grad()
    def settle(self, context: _States, index: int, below: Tensors, above: Tensors) -> tuple[Tensors, Tensors]:
        """See :class:`LearningRule`. Up goes the state, down its product with W."""
        s, free = self.relaxation, context.free_rounds
        nudge, rows = 0.0, below[0] if below else context.rows
        if index > free:
            phase, round_ = divmod(index - free - 1, s.nudged_rounds)
            if round_ == 0:
                self._end(context, rows, above)
                if phase == s.num_nudges:
                    return (), ()
                start = context.ends[0]
                context.state, rows, above = start.state, start.rows, start.above
            nudge = context.beta if phase == 0 else -context.beta
        with _exact(context.state):
            if index > 0:
                context.state = self._relaxed(context, rows, above, nudge)
                if index <= free:
                    context.answer = context.state
            return self._told(context.state)

    @torch.no_grad()
    def learn(self, context: _States, feedback: Tensors, *, weight: float = 1.0) -> Learned:
        """See :class:`LearningRule`. The loss is the free state's cost; a block below the top has none."""
        free, end = context.ends[:2]
        start, width = (context.ends[2], 2.0 * context.beta) if len(context.ends) == 3 else (free, context.beta)
        factor = -weight / (width * len(context.y))
        with _exact(end.state):
            self._accumulate(start, end, factor)
            return Learned(self.decoded_loss(free.state, context.y) if self.spec.is_last else None)

    def decode(self, context: _States) -> Tensor | None:
        """The last block's free state, before it has settled its output; None below it."""
        return context.answer if self.spec.is_last else None

    def num_correct(self, scores: Tensor, y: Tensor) -> Tensor:
        """See :class:`LearningRule`; states regress on the task's targets."""
        return self.spec.task.num_correct_decoded(scores, y)

    def averaged(self, scores: Tensor) -> Tensor:
        """See :class:`LearningRule`; states are no logits."""
        return scores.mean(0)

    def decoded_loss(self, scores: Tensor, y: Tensor) -> Tensor:
        """See :class:`LearningRule`; what is descended on: the cost, a mean over the batch."""
        return (scores - self._targets(scores, y)).square().sum() * ((1.0 if self.is_energy else 0.5) / len(y))

    def _relaxed(self, context: _States, rows: Tensor, above: Tensors, nudge: float) -> Tensor:
        """The state after one more round."""
        dense, state = self._dense, context.state
        u = context.drive if self.spec.is_first else torch.addmm(dense.bias, rows, dense.weight.t())
        if above:
            u = u + above[0]
        if nudge and self.spec.is_last:
            pull = 2.0 * nudge if self.is_energy else nudge
            u = torch.add(u, self._targets(state, context.y) - state, alpha=pull)
        if self.is_energy:
            return torch.lerp(state, u, self.relaxation.step).clamp_(0.0, 1.0)
        found: Tensor = self._unit(u)
        return found

    def _told(self, state: Tensor) -> tuple[Tensors, Tensors]:
        """What goes up and what goes down."""
        up = () if self.spec.is_last else (state,)
        return up, () if self.spec.is_first else (torch.mm(state, self._dense.weight),)

    def _end(self, context: _States, rows: Tensor, above: Tensors) -> None:
        """A phase is over: notes where it has ended; free states of the training set are kept."""
        if not context.ends and context.samples is not None:
            self.states.index_copy_(0, context.samples, context.state)
        context.ends.append(_End(context.state, rows, () if context.ends else above))

    def _accumulate(self, start: _End, end: _End, factor: float) -> None:
        """Adds ``factor (end.state^T end.rows - start.state^T start.rows)``, as two small products: the difference of
        two large ones would keep fewer digits."""
        weight, bias = self._dense.weight, self._dense.bias
        moved = (end.state - start.state).mul_(factor)
        if weight.requires_grad:
            gradient = torch.mm(moved.t(), end.rows)
            if not self.spec.is_first:
                gradient.addmm_(start.state.t(), (end.rows - start.rows).mul_(factor))
            accumulate(weight, gradient)
        if bias.requires_grad:
            accumulate(bias, moved.sum(0))

    def _targets(self, state: Tensor, y: Tensor) -> Tensor:
        return self.spec.task.targets(y).to(state.dtype)


def _exact(x: Tensor) -> AbstractContextManager[object]:
    """Context in which products are not rounded, autocast or not."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _check_unit(unit: nn.Module, is_energy: bool) -> None:
    """Refuses units behind which states do not settle, or leave the energy's [0, 1]."""
    if isinstance(unit, (NonDifferentiable, *_CHANGED)):
        raise ValueError(
            f"states cannot settle behind a unit that jumps, samples or changes (given: {type(unit).__name__}, "
            "expected: a smooth one, or clip). Set model.activation to clip, model.norm to none, model.dropout to 0."
        )
    is_clip = isinstance(unit, nn.Hardtanh) and (unit.min_val, unit.max_val) == (0.0, 1.0)
    if is_energy and not is_clip and not isinstance(unit, nn.Identity):
        raise ValueError(
            f"states of the energy-based form lie in [0, 1] (given: {type(unit).__name__}, expected: clip or no unit). "
            "Set model.activation to clip, or rule.form to prototypical."
        )


def _kept(spec: BlockSpec) -> int:
    """Samples that states are kept of."""
    if spec.num_train < 1:
        raise ValueError(
            f"states are kept of every training sample (given: spec.num_train = {spec.num_train}, expected: at least "
            "1). Say how many there are, or set rule.persistent to false."
        )
    return spec.num_train


def _rate(rates: tuple[float, ...], spec: BlockSpec) -> float:
    """The block's factor on the learning rate."""
    if rates and len(rates) != spec.num_blocks:
        raise ValueError(
            f"every block has a rate, or none (given: rule.rates of {len(rates)}, expected: {spec.num_blocks}). "
            "Give one for each block, from the first to the output, or leave it out."
        )
    return rates[spec.index] if rates else 1.0


def build(
    block: Block, spec: BlockSpec, *, relaxation: Relaxation = Relaxation(), rates: tuple[Positive, ...] = ()
) -> LearningRule:
    """Make the rule of one block; see :class:`EquilibriumPropagation`.

    Args:
        relaxation: of all blocks.
        rates: factor on the learning rate of each block, from the first; empty for 1.
    """
    return EquilibriumPropagation(block, spec, relaxation, _rate(rates, spec))
