"""Local representation alignment with feedback: its formulas, what bounds it, null initialisation, halting."""

import os
from pathlib import Path

import pytest
import torch
from rule_builders import batch, conv, dense, gradients, learn_chain, make_rules, read_out, true_gradients
from tests.support.runs import run
from torch import nn

from pipeline import registry
from pipeline.data.task import Binary, Classification
from pipeline.learning.rule import Topology
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli, LocalWinner, Sign, SoftLocalWinner, Step
from pipeline.records.weights import latest_weights, load_blocks

build = registry.load("pipeline.rules", "lra_fdbk", "rule")
EXACT = {"rtol": 1e-10, "atol": 1e-14}
BARE = {"weight_clip": 0.0, "displacement_clip": 0.0}


def net(activation=nn.Tanh):
    return [dense(6, 7, activation), dense(7, 8, activation), dense(8, 6, activation), read_out((6,))]


def rules_of(blocks=None, **options):
    return make_rules(build, blocks or net(), (6,), **options)


def middle(f=nn.Tanh, *, g=None, **options):
    """The rule of a block, 7 to 8, between two others."""
    block = Block(nn.Sequential(nn.Linear(7, 8), f(), *([g] if g else [])))
    return rules_of([dense(6, 7), block, read_out((8,))], **options)[1]


@pytest.mark.parametrize("loss", ["cauchy", "l2", "l1"])
def test_gradient_and_message_by_the_formulas(loss):
    rule = middle(loss=loss, displacement_clip=0.5, weight_clip=0.4)
    x, y = batch((7,))
    _, context = rule(x, y)
    displacement = torch.randn(len(x), 8, dtype=torch.float64)
    learned = rule.learn(context, (displacement,))
    a = rule.block.body[0](x).detach()
    norms = displacement.norm(dim=1, keepdim=True)
    r = a.tanh() - (a - 0.1 * displacement * (0.5 / norms).clamp(max=1)).tanh()
    value, slope = {
        "cauchy": ((1 + r**2).log(), 2 * r / (1 + r**2)), "l2": (0.5 * r**2, r), "l1": (r.abs(), r.sign()),
    }[loss]  # fmt: skip
    e = slope * (1 - a.tanh() ** 2)
    weight, bias = e.t() @ x, e.sum(0)
    torch.testing.assert_close(rule.block.body[0].weight.grad, weight * (0.4 / weight.norm()).clamp(max=1), **EXACT)
    torch.testing.assert_close(rule.block.body[0].bias.grad, bias * (0.4 / bias.norm()).clamp(max=1), **EXACT)
    torch.testing.assert_close(learned.upstream[0], e @ rule.matrix, **EXACT)
    torch.testing.assert_close(learned.loss, value.sum(1).mean(), **EXACT)
    assert len(learned.upstream) == 1 and learned.credited is None


def test_the_matrix_is_normal_fixed_and_not_that_of_the_first_block():
    rules = make_rules(build, [dense(90, 110), dense(110, 120), read_out((120,))], (90,), error_std=1.5)
    assert not hasattr(rules[0], "matrix")
    matrix = rules[1].matrix
    assert matrix.shape == (120, 110) and not matrix.requires_grad and "matrix" in rules[1].state_dict()
    assert matrix.std().item() == pytest.approx(1.5, rel=0.03) and abs(matrix.mean().item()) < 0.05


def test_o_l1_targets_behind_the_nonlinearity_are_backpropagation():
    """O-L1: targets behind the unit, half squared distances and one step of all blocks together are backpropagation.

    Lemma 1: ``y = z - dL/dz`` at every block and half squared distances, all blocks in one step.
    """
    blocks = net()
    rules = rules_of(blocks, loss="l2", **BARE)
    x, y = batch((6,))
    loss = Classification(5).loss
    contexts = []
    h = x
    for rule in rules:
        h, context = rule(h, y)
        contexts.append(context)
    e = rules[-1].output_error(contexts[-1][1], y)[1] / len(x)
    found = []
    for rule, (rows, *_), below in zip(rules[:0:-1], contexts[:0:-1], contexts[-2::-1]):
        found.append([e.t() @ rows, e.sum(0)])
        _, a, _, z = below
        target = z - e @ rule.affine[0].detach()
        e = rules[0].f.derive(z - target, a, z)
    found.append([e.t() @ contexts[0][0], e.sum(0)])
    for grads, wanted in zip(found[::-1], true_gradients(blocks, x, y, loss), strict=True):
        for given, expected in zip(grads, wanted, strict=True):
            torch.testing.assert_close(given, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("task", [Classification(5), Binary()], ids=["classes", "binary"])
def test_o_l4_linear_units_and_the_weights_as_feedback_are_backpropagation(reduction, task):
    """O-L4: lra_fdbk with linear units, the weights for feedback, beta = 1 and squared losses is backpropagation."""
    blocks = [dense(6, 7, None), dense(7, 8, None), read_out((8,), task.num_outputs)]
    rules = rules_of(blocks, task=task, beta=1.0, loss="l2", reduction=reduction, **BARE)
    for rule in rules[1:]:
        rule.matrix.copy_(rule.affine[0].detach())
    x, y = batch((6,))
    y = y % max(2, task.num_outputs)
    learn_chain(rules, x, y)
    factor = 1 if reduction == "mean" else len(x)
    for rule, wanted in zip(rules, true_gradients(blocks, x, y, task.loss), strict=True):
        for given, expected in zip(gradients(rule), wanted, strict=True):
            torch.testing.assert_close(given, expected * factor, rtol=1e-10, atol=1e-12)


def test_a_last_block_with_a_unit_has_the_gradient_behind_it():
    """A network of one's own may end with one."""
    blocks = [dense(6, 7), dense(7, 5, nn.Tanh)]
    rules = rules_of(blocks)
    x, y = batch((6,))
    h, _ = rules[0](x, y)
    out, context = rules[1](h, y)
    assert torch.equal(rules[1].decode(context), out)
    loss = Classification(5).loss(blocks[1](h), y)
    wanted = torch.autograd.grad(loss * len(x), list(blocks[1].parameters()))
    torch.testing.assert_close(rules[1].learn(context, ()).loss, loss.detach(), **EXACT)
    for given, expected in zip(gradients(rules[1]), wanted, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-10, atol=1e-13)


def test_parts_of_a_batch_add_up_to_it():
    """As they are under ``sum``, each by its share under ``mean``."""
    x, y = batch((6,), size=12)
    for reduction in ("sum", "mean"):
        whole = rules_of(reduction=reduction)
        parts = rules_of(reduction=reduction)
        for part, rule in zip(parts, whole):
            part.load_state_dict(rule.state_dict())
        learn_chain(whole, x, y)
        for chosen in (slice(0, 5), slice(5, 12)):
            learn_chain(parts, x[chosen], y[chosen], weight=len(y[chosen]) / 12)
        for part, rule in zip(parts, whole):
            for given, wanted in zip(gradients(part), gradients(rule), strict=True):
                torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("f", "g"),
    [
        (nn.Tanh, Sign()), (nn.Tanh, Step()), (nn.Sigmoid, Bernoulli()), (nn.Tanh, LocalWinner(4)),
        (nn.Hardtanh, SoftLocalWinner(4)),
    ],
)  # fmt: skip
def test_a_hard_part_is_run_forward_and_gone_around_back(f, g):
    """The same gradient and message as without it; what is sent on is hard."""
    hard, smooth = middle(f, g=g), middle(f)
    smooth.load_state_dict(hard.state_dict())
    x, y = batch((7,))
    displacement = torch.randn(len(x), 8, dtype=torch.float64)
    torch.manual_seed(5)
    out, context = hard(x, y)
    torch.manual_seed(5)
    assert torch.equal(out, hard.block(x).detach()) and not torch.equal(out, smooth(x, y)[0])
    sent = hard.learn(context, (displacement,)).upstream[0]
    assert torch.equal(sent, smooth.learn(smooth(x, y)[1], (displacement,)).upstream[0])
    assert all(torch.equal(a, b) for a, b in zip(gradients(hard), gradients(smooth), strict=True))
    assert hard.draws and not smooth.draws


def test_o_l6_from_zero_weights_each_step_reaches_one_more_block(tmp_path):
    """O-L6: from zero weights and without biases, after k steps exactly the first k blocks have weights other than 0.

    Runs of 1, 2, ... steps with biases that stay at 0.
    """
    for steps in range(1, 5):
        run(tmp_path / f"{steps}", {
            "rule": {"name": "lra_fdbk"}, "optimizer": {"name": "sgd", "lr": 0.01, "milestones": []},
            "train": {"epochs": steps, "batch_size": 2000}, "run": {"stages": 2},
            "dataset": {"name": "digits", "crop_padding": 0},
        }, model=zeros())  # fmt: skip
        states = load_blocks(latest_weights(tmp_path / f"{steps}"))
        weights = [state["block.body.linear.weight"] for state in states]
        assert [w.any().item() for w in weights] == [True] * steps + [False] * (4 - steps)
        assert not any(state["block.body.linear.bias"].any() for state in states)


def zeros():
    """Four blocks, their biases at 0 and not trained."""
    sizes = [64, 9, 9, 9, 10]
    blocks = []
    for k in range(4):
        linear = nn.Linear(sizes[k], sizes[k + 1])
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias).requires_grad_(False)
        layers = {"flatten": nn.Flatten(), "linear": linear, **({"tanh": nn.Tanh()} if k < 3 else {})}
        body = nn.Sequential()
        for name, layer in layers.items():
            body.add_module(name, layer)
        blocks.append(Block(body))
    return blocks


@pytest.mark.parametrize(("name", "folder", "errors"), [
    ("mnist", "MNIST", 8865), ("fashion_mnist", "FashionMNIST", 9000),
])  # fmt: skip
def test_o_l7_a_constant_answer_is_the_failed_cell_of_the_published_table(name, folder, errors):
    """O-L7: the best constant answer has 88.65 % of MNIST's test set wrong, and 90 % of Fashion-MNIST's."""
    root = Path(os.environ.get("ONWARD_DATA", ""))
    if not os.environ.get("ONWARD_DATA") or not (root / folder).is_dir():
        pytest.skip(f"needs {folder} under ONWARD_DATA")
    y = registry.load("pipeline.datasets", name, "data set")(root, download=False).load()[1].y
    assert len(y) == 10_000 and len(y) - y.bincount().max() == errors


def halting(halt, **options):
    rules = rules_of(halt=halt, **options)
    x, y = batch((6,))
    contexts = []
    for rule in rules:
        x, context = rule(x, y)
        contexts.append(context)
    return rules, contexts, y


def test_o_l8_an_infinite_threshold_updates_nothing_and_sends_zeros():
    """O-L8: with an infinite threshold no block is updated, for no sample."""
    rules, contexts, _ = halting(float("inf"))
    message = ()
    for rule, context in zip(rules[::-1], contexts[::-1]):
        learned = rule.learn(context, message)
        message = learned.upstream
        assert learned.credited == 0 and learned.loss.isfinite()
        assert not any(grad.any() for grad in gradients(rule))
        assert not message or not message[0].any() and (message[1] == float("inf")).all()


def test_o_l8_a_threshold_of_zero_updates_everything():
    """O-L8: with a threshold of 0 every block is updated, for every sample.

    0 never halts, and next to 0 gives the same gradients and credits every block with every sample.
    """
    rules, contexts, y = halting(1e-300)
    others = halting(0.0)[0]
    message, other_message = (), ()
    for rule, other in zip(rules[1:], others[1:]):
        other.load_state_dict({k: v for k, v in rule.state_dict().items() if k != "first_loss"})
    others[0].load_state_dict(rules[0].state_dict())
    rules, contexts = rules[::-1], contexts[::-1]
    other_contexts = []
    x = batch((6,))[0]
    for other in others:
        x, context = other(x, y)
        other_contexts.append(context)
    credited = 0
    for rule, context, other, other_context in zip(rules, contexts, others[::-1], other_contexts[::-1]):
        learned, never = rule.learn(context, message), other.learn(other_context, other_message)
        message, other_message = learned.upstream, never.upstream
        credited += learned.credited
        assert never.credited is None and len(other_message) == min(len(message), 1)
        assert all(torch.equal(a, b) for a, b in zip(gradients(rule), gradients(other), strict=True))
    assert credited == len(y) * len(rules)


def test_a_halted_sample_is_updated_neither_here_nor_below():
    rules, contexts, y = halting(1.0)
    top = rules[-1].learn(contexts[-1], ())
    losses = Classification(5).sample_losses(contexts[-1][1], y)
    active = losses >= losses.mean()
    assert 0 < active.sum() < len(y) and top.credited == active.sum()
    assert torch.equal(rules[-1].first_loss, losses.mean())
    displacement, limits = top.upstream
    assert torch.equal(displacement.any(1), active) and torch.equal(limits.isfinite(), active)
    assert (limits[active] == losses.mean()).all()
    # Below, loss and limit decide for those that came this far, and the others stay out.
    own, _ = rules[-2].compare(contexts[-2], displacement)
    limits = torch.where(active, own.median(), float("inf"))
    learned = rules[-2].learn(contexts[-2], (displacement, limits))
    further = active & (own >= own.median())
    assert learned.credited == further.sum() < active.sum()
    assert torch.equal(learned.upstream[1].isfinite(), further)
    only = rules_of()[-2]
    only.load_state_dict(rules[-2].state_dict())
    rows, a, labels, z = contexts[-2]
    only.learn((rows[further], a[further], labels[further], z[further]), (displacement[further],))
    for given, wanted in zip(gradients(rules[-2]), gradients(only), strict=True):
        torch.testing.assert_close(given, wanted, rtol=1e-10, atol=1e-14)


def test_the_threshold_is_that_of_the_first_batch_for_good():
    rules, contexts, y = halting(0.05)
    rules[-1].learn(contexts[-1], ())
    first = rules[-1].first_loss.clone()
    with torch.no_grad():
        rules[-1].affine[0].mul_(3.0)
    out, context = rules[-1](contexts[-1][0], y)
    rules[-1].learn(context, ())
    assert torch.equal(rules[-1].first_loss, first) and first.isfinite() and "first_loss" in rules[-1].state_dict()


def test_topology():
    assert rules_of()[0].topology is Topology.NEIGHBOUR and rules_of()[0].splits_batches


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"beta": 0.0}, r"given: rule.beta = 0.0, expected: above 0"),
        ({"weight_clip": -1.0}, r"given: rule.weight_clip = -1.0, expected: 0 for none, or above"),
        ({"displacement_clip": -1.0}, r"given: rule.displacement_clip = -1.0"),
        ({"halt": float("nan")}, r"given: rule.halt = nan"),
        ({"error_std": -0.5}, r"given: rule.error_std = -0.5, expected: 0 or above"),
    ],
)
def test_numbers_out_of_range(options, text):
    with pytest.raises(ValueError, match=text):
        rules_of(**options)


def test_blocks_of_another_form():
    with pytest.raises(ValueError, match=r"lra_fdbk takes vectors \(given: samples of shape \(2, 6\).*nn.Flatten"):
        make_rules(build, [dense(6, 3), read_out((2, 3))], (2, 6))
    half = Block(nn.Sequential(nn.Tanh(), nn.Linear(6, 7)))
    with pytest.raises(ValueError, match=r"end with their unit .* model.boundary = 'post'.* or use lra_diff"):
        rules_of([half, read_out((7,))])
    with pytest.raises(ValueError, match=r"lra_fdbk is a rule of fully connected layers"):
        make_rules(build, [conv(2, 3), read_out((3, 4, 4))], (2, 4, 4))
    with pytest.raises(ValueError, match=r"lra_fdbk cannot split the unit into f and g \(given: BatchNorm1d, Tanh"):
        rules_of([dense(6, 7, norm=True), read_out((7,))])
