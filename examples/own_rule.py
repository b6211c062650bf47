"""A learning rule of your own: each block has a linear classifier, and pays for large activations.

    python examples/own_rule.py

A rule is named by where it can be imported from: the one here is ``own_rule.build``. It has all that the rules of
Onward have, any number of stages and the same weights on each, since it sees no block but its own.
"""

from math import prod

import onward
from torch import nn

from pipeline import LocalRule, Output


class Sparse(LocalRule):
    """Minimises ``cross_entropy(W h, y) + price * mean(|h|)`` over the block's weights and W."""

    def __init__(self, block, spec, price):
        super().__init__(block, spec)
        self.price = price
        self.classifier = nn.Linear(prod(spec.body_shape), spec.task.num_outputs)

    def loss(self, context):
        h, y = context  # with their graph, which ends at the block's input
        return self.spec.task.loss(self.classifier(h.flatten(1)), y) + self.price * h.abs().mean()

    def decode(self, context):
        return self.classifier(context[0].flatten(1)).detach()  # for the block's own test accuracy


def build(block, spec, *, price: float = 0.1):
    return Output(block, spec) if spec.is_last else Sparse(block, spec, price)


if __name__ == "__main__":  # the processes of a run import this file
    for price in (0.0, 1.0):
        rule = ["rule.name=own_rule.build", f"rule.price={price}"]
        run = onward.train({"train": {"epochs": 5}, "run": {"stages": 2, "threads": 1}}, *rule, quiet=True)
        blocks = " ".join(f"{100 * block['test_accuracy']:.1f}" for block in run["blocks"])
        print(f"price {price}: test accuracy by block {blocks} %")
