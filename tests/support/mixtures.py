"""Mixtures of rules, and what each learns by plain autograd in one process: the oracle of their runs."""

import torch
from tests.support.runs import SMALL, merged

from pipeline.config import Config
from pipeline.config.blocks import of_block
from pipeline.data.batches import Batches
from pipeline.learning.local_rule import LocalRule
from pipeline.learning.rule import Topology
from pipeline.optim.optimizers import load_optimizer
from pipeline.resolve import build_rule, load_dataset, resolve

__all__ = ["MIXTURES", "PLAIN", "Reference"]

PLAIN = {"model": {"depth": 5, "width": 24, "dropout": 0.0, "norm": "none", "activation": "tanh"},
         "dataset": {"crop_padding": 0}}  # fmt: skip
"""Six blocks without dropout: the oracle draws no random numbers."""


def blocks(base, **own):
    """``[rule]`` of a name and of some blocks: ``b0_2`` for blocks 0 to 2, ``last``."""
    named = {key.removeprefix("b").replace("_", "-"): name for key, name in own.items()}
    return {"rule": {"name": base, "blocks": {key: {"name": name} for key, name in named.items()}}}


MIXTURES = {
    "local-beside-local": blocks("predsim", b0="sim", b1_2="linear_decoder", b4="drtp"),
    "backprop-above-local": blocks("backprop", b0_2="predsim"),
    "backprop-below-local": blocks("pred", b0_2="backprop"),
    "backprop-within-local": blocks("linear_decoder", b1="backprop", b3="backprop"),
    "local-beside-broadcast": blocks("dfa", b1="sim", b3_4="pred"),
    "backprop-below-dfa": blocks("dfa", b0_1="backprop"),
    "backprop-right-below-the-last": blocks("dfa", b0="pred", b4="backprop"),
    "all-three": blocks("dfa", b0="backprop", b1="linear_decoder", b3="backprop"),
    "frozen-below-backprop": {"rule": {"name": "backprop"}, "train": {"freeze": "0-1"}},
    "frozen-under-dfa": {"rule": {"name": "dfa"}, "train": {"freeze": "0,2-3"}},
    "frozen-within-backprop": {"rule": {"name": "backprop"}, "train": {"freeze": "0,3-last"}},
    "frozen-between-rules": {**blocks("dfa", b0_1="backprop", b3="pred"), "train": {"freeze": "1,3"}},
    "frozen-above-local": {**blocks("pred", b0="backprop"), "train": {"freeze": "2,last"}},
}
"""Of six blocks."""


class Reference:
    """A run of a mixture in one process, by autograd alone.

    Args:
        changes: of the config SMALL, without dropout and augmentation.
        data_root: where data sets are.
    """

    def __init__(self, changes, data_root):
        table = merged(merged(SMALL, PLAIN), changes)
        table["run"] = {**table["run"], "closed_form": False}
        self.resolved = resolve(Config.from_dict(table), data_root)
        config, specs = self.resolved.config, self.resolved.specs
        self.rules = [build_rule(config, b, s) for b, s in zip(self.resolved.blueprints, specs, strict=True)]
        self.learning = [k for k in range(len(specs)) if k not in self.resolved.frozen]
        self.names = [of_block(config.rule, k, len(specs), "rule").name for k in range(len(specs))]
        self.data_root = data_root

    def batches(self):
        """Those of the run, in its order."""
        config = self.resolved.config
        dataset = load_dataset(config, self.data_root)
        train, _ = dataset.load()
        feed = Batches(train, dataset=dataset, batch_size=config.train.batch_size, seed=config.seed,
                       device=torch.device("cpu"), train=True)  # fmt: skip
        for epoch in range(config.train.epochs):
            yield from ((epoch, *feed.batch(epoch, index)) for index in range(feed.num_batches))

    def objective(self, x, y):
        """One loss of which each block sees its own part: its input is detached where nothing is to come down."""
        total, last, surrogates = 0.0, len(self.rules) - 1, []
        for k, rule in enumerate(self.rules):
            x = x if k > 0 and self.names[k - 1] == "backprop" else x.detach()
            h = rule.block.body(x)
            out = rule.block.outlet(h)
            if k in self.learning and k < last:
                if isinstance(rule, LocalRule):
                    total = total + rule.loss((h, y))
                elif rule.topology is Topology.BROADCAST:
                    surrogates.append((rule, out))
            x = out
        loss = rule.spec.task.loss(out, y)
        error = rule.spec.task.error(out.detach(), y)
        for hidden, activation in surrogates:
            total = total + (activation * (error @ hidden.matrix)).sum()
        return total + loss if last in self.learning or self.names[last] == "backprop" else total

    def train(self):
        """All epochs; returns the states of the blocks."""
        optimizers = []
        for k in self.learning:
            own = of_block(self.resolved.config.optimizer, k, len(self.rules), "optimizer")
            options = {name: v for name, v in own.options.items() if name not in ("milestones", "gamma")}
            known = load_optimizer("adam", {}).options if own.name == "adam" else load_optimizer(own.name, {}).options
            spec = load_optimizer(own.name, {name: v for name, v in options.items() if name in known})
            optimizers.append((spec.build(self.rules[k].parameters()), spec.lr, own.options))
        for k, rule in enumerate(self.rules):
            rule.train()
            rule.block.train(k in self.learning)
        for epoch, x, y in self.batches():
            self.objective(x, y).backward()
            for optimizer, rate, options in optimizers:
                passed = sum(epoch >= m for m in options["milestones"])
                optimizer.param_groups[0]["lr"] = rate * options["gamma"] ** passed
                optimizer.step()
            for rule in self.rules:
                rule.zero_grad(set_to_none=True)
        return [rule.state_dict() for rule in self.rules]
