import pytest
import torch
from torch import nn

from pipeline import memory
from pipeline.errors import ConfigError
from pipeline.models import mlp
from pipeline.network.block import Block, Blueprint
from pipeline.network.from_modules import blueprints_of
from pipeline.network.shapes import BlockShapes, infer_shapes


class Called(nn.Module):
    """Runs a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.function(x)


def blueprint(function):
    return Blueprint(lambda: Block(Called(function)), "called")


def test_sizes_of_each_block():
    conv = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    network = nn.Sequential(*conv, nn.Flatten(), nn.Linear(36, 7))
    first, second = infer_shapes(blueprints_of(network), (1, 8, 8), out_shape=(7,))
    assert first == BlockShapes((1, 8, 8), (4, 6, 6), (36,), torch.float32, 4 * 9 + 4 + 8)
    assert second == BlockShapes((36,), (7,), (7,), torch.float32, 36 * 7 + 7)


def test_sees_that_a_block_draws_samples():
    found = infer_shapes(mlp.build((4,), 3, depth=1, width=8, activation="bernoulli"), (4,))
    assert [s.draws_samples for s in found] == [True, False]


def test_needs_no_memory(monkeypatch):
    """A network is looked at on the meta device, and refused by its sum, not by running out of memory."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 10**15)
    shapes = infer_shapes(mlp.build((10**6,), 10, depth=1, width=10**6), (10**6,))
    assert shapes[0].num_parameters == 10**12 + 3 * 10**6


def test_blocks_that_read_their_numbers_run_on_the_cpu():
    def grows(x):
        return torch.cat([x, x[:, : int(x.sum().item()) + 1]], 1)

    assert infer_shapes([blueprint(grows)], (3,))[0].out_shape == (4,)


class TwoEmbeddings(nn.Module):
    """The first registered one is that of positions."""

    def __init__(self, num_tokens):
        super().__init__()
        self.place, self.token = nn.Embedding(4, 3), nn.Embedding(num_tokens, 3)

    def forward(self, x):
        return self.token(x) + self.place(torch.arange(x.shape[1]))


def test_an_embedding_with_fewer_rows_than_there_are_tokens():
    def shapes(num_tokens):
        network = [Blueprint(lambda: Block(TwoEmbeddings(num_tokens)), "mine")]
        return infer_shapes(network, (4,), dtype=torch.int64, num_tokens=9)

    assert shapes(9)[0].out_shape == (4, 3)
    with pytest.raises(ConfigError, match=r"the vocabulary is too small \(given: block 0, mine, fails at the token 8, "
                                          r"IndexError: .*, expected: tokens from 0 to 8\)\. Give the embedding at "
                                          r"least 9 rows \(model\.vocabulary of the built-in models\)"):
        shapes(8)


def test_samples_of_whole_numbers():
    network = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2))
    shapes = infer_shapes(blueprints_of(network), (2,), dtype=torch.int64)
    assert [s.out_shape for s in shapes] == [(6,), (2,)] and shapes[0].dtype is torch.float32


def test_leaves_the_random_generator_and_statistics_alone():
    torch.manual_seed(2)
    expected = torch.rand(2)
    torch.manual_seed(2)
    infer_shapes([*mlp.build((4,), 4), blueprint(lambda x: x * float(torch.rand(())))], (4,))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (
            lambda x: x @ torch.zeros(9, 9, device=x.device),
            r"a block cannot run \(given: block 4, called, samples of shape \(3,\) and torch.float32; "
            r"it says: RuntimeError: mat1 and mat2 shapes cannot be multiplied",
        ),
        (lambda x: (x, x), r"a block does not map a batch to a batch \(given: block 4, called, returns tuple for 2"),
        (lambda x: x.sum(), r"returns shape \(\) for 2 samples; expected: one tensor of 2 rows\)"),
        (lambda x: x.flatten(), r"returns shape \(6,\) for 2 samples"),
        (lambda x: x.relu_(), r"a block writes into its input, .*\(given: block 4, called, .*relu_ by relu"),
    ],
)
def test_blocks_that_are_none(function, text):
    with pytest.raises(ConfigError, match=text):
        infer_shapes([*mlp.build((4,), 3), blueprint(function)], (4,))


def test_output_of_another_width():
    with pytest.raises(ConfigError, match=r"\(given: \(3,\) for each sample, expected: \(10,\)\). Change"):
        infer_shapes(mlp.build((4,), 3), (4,), out_shape=(10,))
