"""Local representation alignment of blocks that are more than a linear layer and its unit, and of whole batches."""

import pytest
import torch
import torch.nn.functional as F
from rule_builders import make_rules
from tests.support.resumes import TINY
from tests.support.runs import run, sha
from torch import nn

from pipeline import registry
from pipeline.models._residual import ResidualPair
from pipeline.network.block import Block
from pipeline.network.hard_units import Sign

build = registry.load("pipeline.rules", "lra_fdbk", "rule")
BARE = {"weight_clip": 0.0, "displacement_clip": 0.0, "beta": 0.5}


def conv(num_in, num_out, unit=nn.Tanh, outlet=None, norm=True):
    layers = [nn.Conv2d(num_in, num_out, 3, padding=1), *([nn.BatchNorm2d(num_out)] if norm else []), unit()]
    return Block(nn.Sequential(*layers), outlet)


def pair():
    return Block(nn.Sequential(ResidualPair((3, 3), 1, "tanh", False)))


def top(shape, outputs=4):
    return Block(nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), outputs)))


def net():
    return [conv(2, 3), pair(), conv(3, 4, outlet=nn.MaxPool2d(2)), top((4, 3, 3))]


def rules_of(blocks=None, shape=(2, 6, 6), **options):
    return make_rules(build, blocks or net(), shape, subgraph="block", **{**BARE, **options})


def chain(rules, x, y):
    """Forward through all, then learn from the top; contexts and what each block sent down."""
    contexts, messages = [], {}
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
    feedback = ()
    for k in reversed(range(len(rules))):
        messages[k] = rules[k].learn(contexts[k], feedback)
        feedback = messages[k].upstream
    return contexts, messages


def data(shape=(2, 6, 6), size=5):
    return torch.randn(size, *shape, dtype=torch.float64), torch.arange(size) % 4


def test_a_block_by_the_formulas():
    """Through the pool, the unit, the norm and the convolution, written out with autograd."""
    rules = rules_of()
    x, y = data()
    contexts, messages = chain(rules, x, y)
    rule, displacement = rules[2], messages[3].upstream[0]
    z0 = contexts[2][0].detach().requires_grad_()
    a = rule.block.body[1](rule.block.body[0](z0))
    h = torch.tanh(a)
    (moves,) = torch.autograd.grad(F.max_pool2d(h, 2), h, displacement, retain_graph=True)
    target = torch.tanh(a - 0.5 * moves).detach()
    loss = torch.log1p((h - target) ** 2).sum()
    expected = torch.autograd.grad(loss, [z0, *rule.block.parameters()])
    torch.testing.assert_close(messages[2].loss, loss.detach() / len(y))
    down = torch.einsum("bchw,cd->bdhw", expected[0], rule.matrix)
    torch.testing.assert_close(messages[2].upstream[0], down)
    for parameter, wanted in zip(rule.block.parameters(), expected[1:], strict=True):
        torch.testing.assert_close(parameter.grad, wanted)


def test_the_last_block_has_the_output_loss():
    rules = rules_of()
    x, y = data()
    contexts, messages = chain(rules, x, y)
    z0 = contexts[3][0].detach().requires_grad_()
    loss = F.cross_entropy(rules[3].block(z0), y, reduction="sum")
    d, *grads = torch.autograd.grad(loss, [z0, *rules[3].block.parameters()])
    torch.testing.assert_close(messages[3].upstream[0], torch.einsum("bchw,cd->bdhw", d, rules[3].matrix))
    for parameter, wanted in zip(rules[3].block.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, wanted)


def test_of_a_linear_layer_and_a_unit_the_gradient_is_that_of_the_plain_rule():
    def blocks():
        return [Block(nn.Sequential(nn.Linear(6, 7), nn.Tanh())), Block(nn.Sequential(nn.Linear(7, 5), nn.Tanh())),
                top((5,))]  # fmt: skip

    deep = rules_of(blocks(), (6,))
    plain = make_rules(build, blocks(), (6,), **BARE)
    for a, b in zip(deep, plain, strict=True):
        a.block.load_state_dict(b.block.state_dict())
    x, y = data((6,))
    _, messages = chain(deep, x, y)
    contexts = []
    for rule in plain:
        x, context = rule(x, y)
        contexts.append(context)
    for k, above in ((2, None), (1, 2), (0, 1)):
        learned = plain[k].learn(contexts[k], () if above is None else messages[above].upstream)
        torch.testing.assert_close(learned.loss, messages[k].loss)
        for a, b in zip(deep[k].block.parameters(), plain[k].block.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)


def test_a_hard_unit_is_run_forward_and_bypassed():
    block = Block(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), Sign()))
    rule = rules_of([block, top((3, 4, 4))])[0]
    x, y = data()
    out, context = rule(x, y)
    assert set(out.unique().tolist()) <= {-1.0, 1.0}
    rule.learn(context, (torch.ones_like(out),))
    assert block.body[0].weight.grad.any()


def test_the_matrix_is_fixed_of_channels_or_features_and_not_there_in_the_first_block():
    rules = rules_of(error_std=2.0)
    assert not hasattr(rules[0], "matrix") and rules[1].matrix.shape == (3, 3) and rules[3].matrix.shape == (4, 4)
    assert not any("matrix" in name for name, _ in rules[1].named_parameters())
    assert rules_of([top((6,)), top((4,))], (6,))[1].matrix.shape == (4, 4)


@pytest.mark.parametrize("subgraph", ["unit", "block"])
def test_a_batch_that_has_halted_is_left_alone_and_nothing_is_computed_below(subgraph):
    blocks = [Block(nn.Sequential(nn.Linear(6, 7), nn.Tanh())), Block(nn.Sequential(nn.Linear(7, 5), nn.Tanh())),
              top((5,))]  # fmt: skip
    rules = make_rules(build, blocks, (6,), subgraph=subgraph, halt=0.9, halt_level="batch", **BARE)
    x, y = data((6,))
    _, messages = chain(rules, x, y)
    top_loss = messages[2].loss
    assert torch.equal(rules[2].first_loss, top_loss) and messages[2].credited == len(y)  # its own loss is not below
    (below, limit) = messages[2].upstream
    assert len(below) == len(y) and torch.equal(limit, (top_loss * 0.9).view(1))
    # A hidden loss is far below that: this block halts, tells the one below, and neither has a gradient.
    assert messages[1].credited == 0 and 0 < messages[1].loss < limit[0]
    stopped, limit = messages[1].upstream
    assert stopped.shape == (0, 7) and torch.equal(limit, torch.full((1,), float("inf"), dtype=limit.dtype))
    assert messages[0].credited == 0 and messages[0].loss == 0 and messages[0].upstream == ()
    assert all(p.grad is None for rule in rules[:2] for p in rule.parameters())


@pytest.mark.parametrize("subgraph", ["unit", "block"])
def test_a_batch_that_goes_on_is_learned_from_as_without_halting(subgraph):
    def learned(**options):
        torch.manual_seed(0)
        blocks = [Block(nn.Sequential(nn.Linear(6, 7), nn.Tanh())), top((7,))]
        rules = make_rules(build, blocks, (6,), subgraph=subgraph, **BARE, **options)
        torch.manual_seed(1)
        _, messages = chain(rules, *data((6,)))
        return [p.grad for rule in rules for p in rule.parameters()], messages[0].credited

    halting, credited = learned(halt=1e-12, halt_level="batch")
    assert credited == 5 and all(torch.equal(a, b) for a, b in zip(halting, learned()[0], strict=True))


@pytest.mark.parametrize("model", [
    {"name": "vgg8b", "width": 0.03, "linear_width": 16},
    {"name": "wide_resnet", "width": 0.25, "dropout": 0.2, "activation": "leaky_relu"},
])  # fmt: skip
def test_the_same_weights_on_any_number_of_stages(tmp_path, model):
    """Of convolutions, norms, dropout, pools and residual pairs; with weights copied while batches are in flight."""
    changes = {
        "rule": {"name": "lra_fdbk", "subgraph": "block", "reduction": "mean"}, "model": model,
        "dataset": {"name": "noise", "shape": [1, 16, 16], "num_train": 24, "num_test": 12, "num_classes": 4},
        "train": {"epochs": 1, "batch_size": 8, "in_flight": 2},
    }  # fmt: skip
    one = sha(tmp_path / "one", changes, base=TINY)
    three = {"run": {"stages": 3, "threads": 1}, "transport": {"name": "shared_memory"}}
    assert sha(tmp_path / "three", {**changes, **three}, base=TINY) == one


@pytest.mark.parametrize("transport", ["shared_memory", "process_group"])
def test_feedback_without_rows_travels(tmp_path, transport):
    changes = {
        "rule": {"name": "lra_fdbk", "halt": 0.5, "halt_level": "batch", "reduction": "mean"},
        "model": {"norm": "none", "activation": "tanh", "dropout": 0.0}, "train": {"epochs": 2},
    }  # fmt: skip
    one = run(tmp_path / "one", changes, base=TINY)
    placed = {"run": {"stages": 2, "threads": 1}, "transport": {"name": transport}}
    assert run(tmp_path / "two", {**changes, **placed}, base=TINY)["weights_sha256"] == one["weights_sha256"]
