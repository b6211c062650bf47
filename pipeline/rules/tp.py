"""Target propagation: each block's target is its upper neighbour's, through a learned inverse (Bengio 2014)."""

from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.learning.targets import Alternate, InverseInit, InverseUnit, TargetPropagation, Targets
from pipeline.network.block import Block

__all__ = ["PlainTargetPropagation", "build"]


class PlainTargetPropagation(TargetPropagation):
    """``t_(l-1) = G_l(t_l)``, and :class:`TargetPropagation` around it.

    An inverse that is wrong moves the blocks below even where the output is right; ``dtp`` corrects for that.

    Source: Bengio, "How Auto-Encoders Could Provide Credit Assignment in Deep Networks via Target Propagation"
    (2014), in the form in which Lee et al. (2015) compare it.
    """


def build(
    block: Block,
    spec: BlockSpec,
    *,
    step: float = 0.22,
    noise: float = 0.084,
    noise_halving: int = 0,
    inverse_rate: float = 1.0,
    inverse_activation: InverseUnit = "tanh",
    inverse_init: InverseInit = "orthogonal",
    scale_reconstruction: bool = False,
    alternate: Alternate = "batch",
) -> LearningRule:
    """The rule of one block.

    Args:
        block: what is trained: one ``nn.Linear`` and its unit in ``nn.Sequential``, no normalisation, no dropout.
        spec: its place in the network.
        step: of the topmost hidden block's target, against the gradient of the *batch-mean* loss.
        noise: standard deviation of what G's input is disturbed by.
        noise_halving: epochs after which it is ``noise / 2``, by ``noise / (1 + epoch / noise_halving)``; 0 for a
            constant noise.
        inverse_rate: factor on the learning rate for the inverse.
        inverse_activation: unit of the inverse, that of the block below; ``same`` takes it to be this block's.
        inverse_init: of its weight: ``orthogonal`` with singular values of 1, or ``xavier``, normal.
        scale_reconstruction: whether the reconstruction loss is divided by the noise's variance.
        alternate: ``batch`` trains inverse and block on every batch; ``epoch`` all inverses in epochs 0, 2, ... and
            all blocks in those between.

    Raises:
        ValueError: ``block`` is not of that form, or an option makes no sense.
    """
    options = Targets(
        step, noise, noise_halving, inverse_rate, inverse_activation, inverse_init, scale_reconstruction, alternate
    )
    return PlainTargetPropagation(block, spec, "tp", options, difference=False)
