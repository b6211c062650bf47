"""Ways to project the output error under direct feedback alignment."""

import pytest
import torch
from rule_builders import batch, dense, learn_chain, make_rules, read_out
from tests.support.resumes import TINY
from tests.support.runs import sha
from torch import nn

from pipeline import registry

build = registry.load("pipeline.rules", "dfa", "rule")


def rules_of(norm=False, **options):
    return make_rules(build, [dense(6, 40, norm=norm), dense(40, 30, norm=norm), read_out((30,))], (6,), **options)


def errors(rules, x, y):
    out = x
    for rule in rules:
        out, _ = rule(out, y)
    return rules[-1].spec.task.error(out, y)


def test_rows_are_orthogonal_and_as_large():
    matrix = rules_of(matrix="orthogonal")[0].matrix
    product = matrix @ matrix.t()
    torch.testing.assert_close(product, torch.eye(5, dtype=torch.float64) / 3, rtol=0, atol=1e-6)
    uniform = rules_of()[0].matrix
    assert (matrix.square().mean().sqrt() / uniform.square().mean().sqrt()).item() == pytest.approx(1.0, rel=0.15)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_a_net_reads_the_error_of_each_sample(weight):
    """Not that of the mean: another batch size, or a part of a batch, moves no sample otherwise."""
    rules = rules_of(projection="mlp")
    x, y = batch((6,))
    error = errors(rules, x, y)
    own = torch.tanh((error * len(y)) @ rules[1].hidden) @ rules[1].matrix
    torch.testing.assert_close(rules[1].project(error * weight, weight), own * (weight / len(y)))
    assert not any("matrix" in n or "hidden" in n for n, _ in rules[1].named_parameters())


def test_the_net_is_the_linear_projection_where_errors_are_small():
    projected = rules_of(projection="mlp")[0]
    small = torch.full((4, 5), 1e-9, dtype=torch.float64)
    torch.testing.assert_close(projected.project(small, 1.0), small @ projected.hidden @ projected.matrix)
    scale = (projected.hidden @ projected.matrix).square().mean().sqrt()
    assert scale.item() == pytest.approx((3 * 40) ** -0.5, rel=0.25)


@pytest.mark.parametrize("norm", [False, True], ids=["closed form", "autograd"])
def test_a_learned_matrix_has_the_gradient_of_the_output_weights(norm):
    """In front of the last block, where both read the same features (Kolen and Pollack)."""
    rules = rules_of(norm, matrix="learned", matrix_decay=0.0)
    x, y = batch((6,))
    learn_chain(rules, x, y)
    assert isinstance(rules[1].matrix, nn.Parameter) and isinstance(rules[0].matrix, nn.Parameter)
    torch.testing.assert_close(rules[1].matrix.grad, rules[2].block.body[1].weight.grad)


def test_decay_is_added_once_a_step_whatever_the_parts():
    rules, x, y = rules_of(matrix="learned", matrix_decay=0.1), *batch((6,))
    learn_chain(rules, x, y)
    whole = rules[1].matrix.grad.clone()
    rules[1].zero_grad()
    for rows in torch.arange(len(y)).split(len(y) // 2):
        learn_chain(rules, x[rows], y[rows], weight=len(rows) / len(y))
    torch.testing.assert_close(rules[1].matrix.grad, whole)


def test_a_learned_matrix_turns_towards_the_weights():
    torch.manual_seed(0)
    rules = rules_of(matrix="learned", matrix_decay=0.05)
    optimizer = torch.optim.SGD([
        {"params": [rule.matrix for rule in rules[:-1]]},
        {"params": [p for rule in rules for p in rule.block.parameters()], "weight_decay": 0.05},
    ], lr=0.5)  # fmt: skip

    def cosine():
        return torch.cosine_similarity(rules[1].matrix.flatten(), rules[2].block.body[1].weight.flatten(), dim=0)

    before = cosine()
    x, y = batch((6,))
    for _ in range(200):
        learn_chain(rules, x, y)
        optimizer.step()
        optimizer.zero_grad()
    assert before < 0.5 < 0.95 < cosine()


@pytest.mark.parametrize("options", [{"projection": "mlp"}, {"matrix": "orthogonal"}, {"matrix": "learned"}])
def test_the_same_weights_on_any_number_of_stages(tmp_path, options):
    changes = {"rule": {"name": "dfa", **options}, "train": {"in_flight": 3}}
    one = sha(tmp_path / "one", changes, base=TINY)
    placed = {"run": {"stages": 3, "threads": 1}, "transport": {"name": "shared_memory"}}
    assert sha(tmp_path / "three", {**changes, **placed}, base=TINY) == one
    assert sha(tmp_path / "plain", {"rule": {"name": "dfa"}, "train": {"in_flight": 3}}, base=TINY) != one


def test_a_net_has_no_matrix_to_choose():
    with pytest.raises(ValueError, match=r"a net has no such matrix \(given: rule.projection = 'mlp' with rule.matrix"):
        rules_of(projection="mlp", matrix="learned")
