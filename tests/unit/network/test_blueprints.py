import pickle
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.network.block import Block, Blueprint, build_block
from pipeline.network.blueprints import blueprints_of, load_model

instance = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
several = [nn.Linear(6, 4), nn.Linear(4, 2)]
number = 3
partial_net = partial(nn.Linear, 3)
one_module = nn.Linear(3, 3)


def build(input_shape, num_outputs, *, width: int = 4):
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, num_outputs))


@dataclass(frozen=True)
class Sizes:
    width: int = 4


def with_a_group(input_shape, num_outputs, *, sizes: Sizes = Sizes()):
    return build(input_shape, num_outputs, width=sizes.width)


def nothing_needed(*, width: int = 5):
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 2))


def with_defaults(input_shape=(9,), num_outputs=9):
    return build(input_shape, num_outputs)


def modules(input_shape, num_outputs):
    return [nn.Linear(input_shape[0], 4), nn.Sequential(nn.ReLU(), nn.Linear(4, num_outputs))]


def _linear(a, b):
    return Block(nn.Linear(a, b))


def own_blueprints(input_shape, num_outputs):
    return [Blueprint(partial(_linear, input_shape[0], num_outputs), "mine")]


def lost_blueprints(input_shape, num_outputs):
    return [Blueprint(lambda: _linear(1, 1), "mine")]


def one_argument(width):
    return nn.Linear(width, width)


def no_sequential():
    return nn.Linear(3, 3)


def nothing():
    return []


def fails():
    raise RuntimeError("no such file")


def refuses():
    raise ConfigError("widths clash. Lower one.")


class Net(nn.Sequential):
    def __init__(self, *, width: int = 3):
        super().__init__(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 2))


def shapes(blueprints):
    return [tuple(p.shape) for b in blueprints for p in b.make().parameters() if p.ndim == 2]


def load(attribute, **options):
    return load_model(f"{__name__}.{attribute}", (6,), 2, options).blueprints


def test_named_models():
    blueprints = load_model("mlp", (1, 2, 3), 2, {"depth": 1, "width": 4}).blueprints
    assert shapes(blueprints) == [(4, 6), (2, 4)]
    assert len(load_model("vgg8b", (1, 28, 28), 10, {"width": 0.25}).blueprints) == 8


def test_unknown_names_and_options():
    known = "half_mlp, lenet5, mlp, resnet18, rnn, transformer, vgg11b, vgg8b, wide_resnet, or a dotted"
    with pytest.raises(ConfigError, match=rf"unknown model \(given: 'mpl', expected: {known}"):
        load_model("mpl", (6,), 2, {})
    with pytest.raises(ConfigError, match=r"unknown key \(given: model.widht.*Did you mean 'width'"):
        load_model("mlp", (6,), 2, {"widht": 4})
    with pytest.raises(ConfigError, match=r"wrong value for model.width \(given: '3', str"):
        load("nothing_needed", width="3")


@pytest.mark.parametrize(
    ("attribute", "options", "expected"),
    [
        ("build", {}, [(4, 6), (2, 4)]),
        ("build", {"width": 7}, [(7, 6), (2, 7)]),
        ("nothing_needed", {}, [(5, 6), (2, 5)]),
        ("with_a_group", {}, [(4, 6), (2, 4)]),
        ("with_a_group", {"width": 7}, [(7, 6), (2, 7)]),
        ("nothing_needed", {"width": 8}, [(8, 6), (2, 8)]),
        ("with_defaults", {}, [(4, 6), (2, 4)]),
        ("modules", {}, [(4, 6), (2, 4)]),
        ("own_blueprints", {}, [(2, 6)]),
        ("instance", {}, [(4, 6), (2, 4)]),
        ("several", {}, [(4, 6), (2, 4)]),
        ("Net", {"width": 9}, [(9, 6), (2, 9)]),
    ],
)
def test_everything_a_dotted_name_may_be(attribute, options, expected):
    blueprints = pickle.loads(pickle.dumps(load(attribute, **options)))
    assert shapes(blueprints) == expected


def test_a_dotted_name_may_be_a_module_with_a_build(tmp_path, monkeypatch):
    (tmp_path / "somebodys").mkdir()
    (tmp_path / "somebodys" / "net.py").write_text(f"from {__name__} import build\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert shapes(load_model("somebodys.net", (6,), 2, {"width": 3}).blueprints) == [(3, 6), (2, 3)]


def test_functions_take_the_runs_seed_and_objects_keep_their_weights():
    drawn = [build_block(load("build")[0], seed, 0).body[0].weight for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(build_block(load("instance")[0], 1, 0).body[0].weight, instance[0].weight)


def test_an_object_through_python():
    assert shapes(blueprints_of(instance)) == shapes(blueprints_of(several)) == [(4, 6), (2, 4)]


@pytest.mark.parametrize(
    ("attribute", "options", "text"),
    [
        ("instance", {"width": 3}, r"unknown key \(given: model.width, expected: no further options here\)"),
        ("number", {}, r"not a model \(given: '\w+.number', int; expected: a function, or nn.Sequential"),
        ("partial_net", {}, r"not a model \(given: '\w+.partial_net', partial;"),
        ("one_argument", {}, r"cannot call the model .* \(given: a function of width; expected: of input_shape"),
        ("no_sequential", {}, r"cannot take blocks from the model '\w+.no_sequential' \(given: Linear, expected: nn"),
        ("one_module", {}, r"cannot take blocks from the model '\w+.one_module' \(given: Linear"),
        ("nothing", {}, r"cannot take blocks from the model .* \(given: list"),
        ("fails", {}, r"cannot build the model '\w+.fails' \(its code says: RuntimeError: no such file\)"),
        ("refuses", {}, r"^widths clash. Lower one.$"),
        ("lost_blueprints", {}, r"cannot send the block 'mine' to a worker"),
    ],
)
def test_what_is_no_model(attribute, options, text):
    with pytest.raises(ConfigError, match=text):
        load(attribute, **options)
