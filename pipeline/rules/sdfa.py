"""Direct feedback alignment by the sign of the error alone (Frenkel 2021)."""

from torch import Tensor

from pipeline.learning.rule import BlockSpec, LearningRule
from pipeline.network.block import Block
from pipeline.rules.dfa import DirectFeedbackAlignment

__all__ = ["SignDirectFeedbackAlignment", "build"]


class SignDirectFeedbackAlignment(DirectFeedbackAlignment):
    """Sign-DFA: ``gamma_l = sign(e) B_l`` at the block's output; the last block learns by e itself.

    With n samples, positions or numbers in a batch, the signs are sent as +-1/n: a mean like every other gradient
    here, so that rates do not depend on the batch size and micro-batches add up. B_l is that of ``dfa``. A sample's
    feedback does not shrink with its error, so hidden weights keep moving: decay the learning rate. All classes but
    the right one have the sign +1 whatever the sample, which drives the units of all samples the same way; BatchNorm
    removes that push, without it tanh units may saturate before they have learned anything.

    Source: Frenkel, Lefebvre and Bol, "Learning Without Feedback: Fixed Random Learning Signals Allow for Feedforward
    Training of Deep Neural Networks" (2021), sDFA. Deviations: the mean, where they sum; their outputs are logistic
    units, here the error is that of the task's own loss.
    """

    def error(self, out: Tensor, y: Tensor) -> Tensor:
        """See :class:`DirectFeedbackAlignment`: the signs, divided by what the loss is a mean over."""
        return super().error(out, y).sign() / y.numel()


def build(block: Block, spec: BlockSpec) -> LearningRule:
    """Make the rule of one block."""
    return SignDirectFeedbackAlignment(block, spec)
