"""Direct feedback alignment inside a cell, by its equations and beside truncated backpropagation."""

import pytest
import torch
from rule_builders import assert_same, gradients, make_rules
from torch import nn

from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Classification
from pipeline.learning.projection import ProjectionOptions
from pipeline.network.block import Block
from pipeline.network.recurrent import LastStep, Recurrent
from pipeline.rules.dfa import build

LENGTH = 5
X = torch.randn(4, LENGTH, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def rules_of(task, read_out=None, unit="tanh", **options):
    torch.manual_seed(0)
    blocks = [Block(Recurrent("elman", 3, 6, unit=unit, truncate=1)), Block(read_out or nn.Linear(6, task.num_outputs))]
    return make_rules(build, blocks, (LENGTH, 3), task, inject="cell", **options)


def learned(rules, y):
    """Both blocks learn; the broadcast error and the hidden block's pass."""
    out, steps = rules[0](X, y)
    (error,) = rules[1].learn(rules[1](out, y)[1], ()).upstream
    rules[0].learn(steps, (error,))
    return error, steps


@pytest.mark.parametrize("task", [PositionClasses(4, (LENGTH,)), Regression(4, (LENGTH,))], ids=["classes", "numbers"])
def test_each_step_has_the_error_of_its_own_position(task):
    rules = rules_of(task)
    y = torch.arange(20).view(4, LENGTH) % 4 if task.label_dtype != torch.float32 else torch.randn(4, LENGTH, 4)
    error, steps = learned(rules, y)
    delta = error @ rules[0].matrix
    inner = rules[0].block.body.layer
    torch.testing.assert_close(inner.weight_ih_l0.grad, torch.einsum("bti,btj->ij", delta, X))
    torch.testing.assert_close(inner.weight_hh_l0.grad, torch.einsum("bti,btj->ij", delta, steps.before))
    torch.testing.assert_close(inner.bias_ih_l0.grad, delta.sum((0, 1)))


def test_with_the_weights_of_a_linear_cell_it_is_backpropagation_truncated_to_one_step():
    task = Regression(4, (LENGTH,))
    rules = rules_of(task, unit="linear")
    y = torch.randn(4, LENGTH, 4)
    rules[0].matrix.copy_(rules[1].block.body.weight.detach())
    learned(rules, y)
    blocks = [rule.block for rule in rules]
    wanted = torch.autograd.grad(task.loss(blocks[1](blocks[0](X)), y), list(blocks[0].parameters()))
    assert_same(gradients(rules[0]), wanted)


@pytest.mark.parametrize("matrix", ["uniform", "learned"])
def test_one_label_is_the_error_of_every_step(matrix):
    rules = rules_of(
        Classification(4), nn.Sequential(LastStep(), nn.Linear(6, 4)), options=ProjectionOptions(matrix=matrix)
    )  # fmt: skip
    error, steps = learned(rules, torch.arange(4))
    delta = (error @ rules[0].matrix).unsqueeze(1).expand(4, LENGTH, 6)
    recurrent = rules[0].block.body.layer.weight_hh_l0
    torch.testing.assert_close(recurrent.grad, torch.einsum("bti,btj->ij", delta, steps.before))
    if matrix == "learned":
        torch.testing.assert_close(rules[0].matrix.grad, error.t() @ steps.h[:, -1])


def test_gates_have_no_single_pre_activation():
    with pytest.raises(ValueError, match=r"dfa with inject = 'cell' trains blocks of one Elman .*given: Recurrent;"):
        make_rules(build, [Block(Recurrent("gru", 3, 6)), Block(nn.Linear(6, 4))], (LENGTH, 3),
                   PositionClasses(4, (LENGTH,)), inject="cell")  # fmt: skip
