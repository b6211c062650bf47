"""Training on all samples at once: closed forms beside a search, and what a table reads of it."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.accuracy.attempt import summary
from benchmarks.accuracy.cell import Cell
from benchmarks.accuracy.metrics import last
from benchmarks.offline import __main__ as offline
from benchmarks.offline.admm import Admm, closest, output_step
from benchmarks.offline.alternating import OfflineAlternating
from pipeline.config.toml_text import to_toml
from pipeline.data.task import Classification
from pipeline.learning.codes import CodeSearch
from pipeline.learning.rule import BlockSpec
from pipeline.network.block import Block
from pipeline.rules.am import build

GRID = torch.linspace(-6, 6, 24001, dtype=torch.float64)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_pre_activations_are_the_best_there_are():
    ahead, activation = drawn(200), drawn(200, seed=1)
    costs = 3.0 * (activation - GRID.relu().unsqueeze(1)).square() + 0.7 * (GRID.unsqueeze(1) - ahead).square()
    found = closest(ahead, activation, 0.7, 3.0)
    reached = 3.0 * (activation - found.relu()).square() + 0.7 * (found - ahead).square()
    assert (reached <= costs.min(0).values + 1e-9).all()


@pytest.mark.parametrize("label", [0, 1])
def test_outputs_are_the_best_there_are(label):
    ahead, multiplier = 1.5 * drawn(200), 0.5 * drawn(200, seed=1)

    def cost(z):
        hinge = (1 - z).clamp_min(0) if label else z.clamp_min(0)
        return hinge + z * multiplier + 0.8 * (z - ahead).square()

    found = output_step(ahead, multiplier, torch.full((200,), label), 0.8)
    assert (cost(found) <= cost(GRID.unsqueeze(1)).min(0).values + 1e-9).all()


def test_activations_and_weights_solve_their_least_squares():
    torch.manual_seed(0)
    method, x, y = Admm([6, 5, 4, 3], beta=0.7, gamma=3.0), drawn(40, 6), torch.arange(40) % 3
    method._begin(x)
    method.weights = [w.requires_grad_() for w in method.weights]
    below = method._activation(0).detach().requires_grad_()
    cost = 0.7 * (method._z[1] - below @ method.weights[1].t()).square().sum()
    cost = cost + 3.0 * (below - method._z[0].relu()).square().sum()
    assert torch.autograd.grad(cost, below)[0].abs().max() < 1e-10
    method = Admm([6, 5, 4, 3])
    method.iterate(x, y)
    assert [tuple(w.shape) for w in method.weights] == [(5, 6), (4, 5), (3, 4)]
    assert [tuple(z.shape) for z in method.forward(x)] == [(40, 5), (40, 4), (40, 3)]


def blobs():
    """Three classes around points of a plane that no line divides."""
    y = torch.arange(150) % 3
    angles = y * 2.1 + 0.2 * drawn(150)
    return torch.stack([angles.cos(), angles.sin(), (3 * angles).cos()], 1), y


@pytest.mark.parametrize(
    "make", [lambda w: Admm(w), lambda w: OfflineAlternating(w, CodeSearch(reduction="features"))], ids=["admm", "am"]
)
def test_a_net_learns(make):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        (x, y), method = blobs(), make([3, 12, 12, 3])
        for _ in range(15):
            method.iterate(x, y)
    finally:
        torch.set_default_dtype(torch.float32)
    assert (method.forward(x)[-1].argmax(1) == y).double().mean() > 0.9


def test_offline_codes_are_those_of_the_online_rule():
    torch.manual_seed(0)
    search = CodeSearch(reduction="features", code_rate=1e-4)
    method = OfflineAlternating([3, 6, 3], search)
    x, y = blobs()
    start = method.forward(x.float())[0]
    block = Block(nn.Sequential(nn.ReLU(), nn.Linear(6, 3)))
    block.body[1].load_state_dict(method.output.state_dict())
    rule = build(block, BlockSpec(1, 2, (6,), (3,), (3,), Classification(3)), search=search)
    code = start + rule.learn(rule(start, y)[1], ()).upstream[0]
    torch.testing.assert_close(method._search(0, start, None, y), code, rtol=1e-4, atol=1e-6)
    assert not torch.equal(code, start)


def test_a_table_can_read_what_is_left(tmp_path):
    config = {"model.name": "half_mlp", "model.width": [12], "model.norm": "none", "dataset.name": "digits",
              "rule.name": "am", "rule.mu": 0.01, "rule.reduction": "features", "train.epochs": 3,
              "train.batch_size": 1437}  # fmt: skip
    (tmp_path / "config.toml").write_text(to_toml(Cell("one", config, []).nested(0)))
    for method in offline.METHODS:
        out = tmp_path / method
        arguments = ["--method", method, "--config", str(tmp_path / "config.toml"), "--out", str(out),
                     "--data-root", str(tmp_path), "--quiet"]  # fmt: skip
        assert offline.main(arguments) == 0
        run = summary(out)
        assert len(run["errors"]) == run["epochs"] == 3 and 0 < last(run) < 95 and run["threads"] == 1


def test_losses_are_those_of_the_outputs():
    class Fixed:
        def iterate(self, x, y):
            self.seen = len(x)

        def forward(self, x):
            return [x]

    method, scores, y = Fixed(), drawn(8, 3), torch.arange(8) % 3
    (row,) = offline.learn(method, 1, (scores[:4], y[:4]), (scores, y))
    assert method.seen == 4 and row["test_loss"] == pytest.approx(F.cross_entropy(scores, y).item())
    assert row["test_accuracy"] == (scores.argmax(1) == y).double().mean()


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (["--method", "newton"], r"--method: invalid choice: 'newton' \(choose from '?alternating'?, '?admm'?\)"),
        (["--method"], "--method: expected one argument"),
        ([], "the following arguments are required: --method"),
    ],
)
def test_an_unknown_method_is_the_users_mistake(capsys, tmp_path, last, said):
    with pytest.raises(SystemExit) as end:
        offline.main(["--config", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run"), *last])
    assert end.value.code == 2 and re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.name": "mlp"},
         "reads the widths of half_mlp (given: model.name = mlp with model.width = [12], expected"),
        ({"model.width": 12},
         "reads the widths of half_mlp (given: model.name = half_mlp with model.width = 12, expect"),
        ({"model.width": None}, "(given: model.name = half_mlp with model.width = None, expected"),
        ({"rule.sparsity": 0.1}, "has no sparsity (given: rule.sparsity = 0.1, expected: 0"),
        ({"rule.reduction": "mean"}, "takes sums over features (given: rule.reduction = mean, expected: features"),
        ({"rule.reduction": None}, "takes sums over features (given: rule.reduction = auto, expected: features"),
        ({"dataset.name": "nowhere"}, "nowhere"),
    ],
)
def test_a_config_that_does_not_fit_is_the_users_mistake(capsys, tmp_path, changes, said):
    given = {"model.name": "half_mlp", "model.width": [12], "dataset.name": "digits", "rule.name": "am",
             "rule.reduction": "features", **changes}  # fmt: skip
    kept = {key: value for key, value in given.items() if value is not None}
    (tmp_path / "config.toml").write_text(to_toml(Cell("one", kept, []).nested(0)))
    arguments = ["--method", "alternating", "--config", str(tmp_path / "config.toml"), "--out", str(tmp_path / "run")]
    assert offline.main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not (tmp_path / "run").exists()
