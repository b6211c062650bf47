"""Ways to project the output error under direct feedback alignment."""

import pytest
import torch
from rule_builders import batch, dense, learn_chain, make_rules, read_out
from tests.support.resumes import TINY
from tests.support.runs import merged, run, sha
from torch import nn

from pipeline import registry
from pipeline.records.weights import latest_weights, load_blocks

build = registry.load("pipeline.rules", "dfa", "rule")
PLAIN = merged(TINY, {
    "rule": {"name": "dfa", "matrix": "learned"}, "model": {"norm": "none", "dropout": 0.0, "activation": "tanh"},
    "optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 0.2, "milestones": []},
})  # fmt: skip


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


def test_columns_are_orthogonal_and_as_large_where_outputs_are_more():
    narrow = make_rules(build, [dense(6, 3), read_out((3,))], (6,), matrix="orthogonal")[0].matrix
    product = narrow.t() @ narrow
    torch.testing.assert_close(product, torch.eye(3, dtype=torch.float64) * 5 / 9, rtol=0, atol=1e-6)
    assert narrow.square().mean().sqrt().item() == pytest.approx((3 * 3) ** -0.5)


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
    rules = rules_of(norm, matrix="learned")
    x, y = batch((6,))
    learn_chain(rules, x, y)
    assert isinstance(rules[1].matrix, nn.Parameter) and isinstance(rules[0].matrix, nn.Parameter)
    torch.testing.assert_close(rules[1].matrix.grad, rules[2].block.body[1].weight.grad)


def test_parts_of_a_batch_add_up():
    rules, x, y = rules_of(matrix="learned"), *batch((6,))
    learn_chain(rules, x, y)
    whole = rules[1].matrix.grad.clone()
    rules[1].zero_grad()
    for rows in torch.arange(len(y)).split(len(y) // 2):
        learn_chain(rules, x[rows], y[rows], weight=len(rows) / len(y))
    torch.testing.assert_close(rules[1].matrix.grad, whole)


def difference(out, changes):
    """Between the output weights and the topmost learned matrix after a run."""
    run(out, changes, base=PLAIN)
    states = load_blocks(latest_weights(out))
    return next(v for k, v in states[-1].items() if k.endswith("weight")) - states[-2]["matrix"]


def test_with_weight_decay_the_difference_from_the_output_weights_shrinks_step_by_step(tmp_path):
    """By 1 - lr decay, since both have one gradient: not faster, so B decays once."""
    initial, shorter, longer = (
        difference(tmp_path / f"{n}", {"train": {"epochs": n}, "optimizer": {"lr": 1e-30 if n == 1 else 0.05}})
        for n in (1, 2, 6)
    )
    steps = 2 * 5, 6 * 5
    for found, count in zip((shorter, longer), steps, strict=True):
        torch.testing.assert_close(found, initial * (1 - 0.05 * 0.2) ** count, rtol=1e-3, atol=1e-5)
    without = difference(tmp_path / "without", {"train": {"epochs": 6}, "optimizer": {"weight_decay": 0.0}})
    torch.testing.assert_close(without, initial, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("options", [{"projection": "mlp"}, {"matrix": "orthogonal"}, {"matrix": "learned"}])
def test_in_bfloat16_on_any_number_of_stages(tmp_path, options):
    changes = {"rule": {"name": "dfa", **options}, "run": {"autocast": "bfloat16", "threads": 1}}
    one = sha(tmp_path / "one", changes, base=TINY)
    assert sha(tmp_path / "two", merged(changes, {"run": {"stages": 2}}), base=TINY) == one


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
