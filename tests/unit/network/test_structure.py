import io
import os
from operator import attrgetter

import pytest
import torch
from tests.support import own_nets
from torch import nn

from pipeline.errors import ConfigError
from pipeline.network import structure
from pipeline.network.structure import pack_structure, unpack_structure


def test_a_structure_is_the_network_without_the_weights_of_its_blocks():
    network = own_nets.named()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    data = pack_structure(network)
    found = unpack_structure(data)
    assert repr(found) == repr(network) and list(found.state_dict()) == list(before)
    assert {t.device.type for t in [*found.parameters(), *found.buffers()]} == {"cpu"}
    found.load_state_dict(before)
    x = torch.rand(5, 1, 6, 6)
    assert torch.equal(found.eval()(x), network.eval()(x))
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


def test_it_is_small_whatever_the_network_weighs():
    wide = nn.Sequential(nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 1000))
    assert len(pack_structure(wide)) < 20_000


def test_what_is_shared_inside_a_block_stays_shared():
    residual = unpack_structure(pack_structure(own_nets.named())).blocks[0]
    assert residual.second.weight is residual.first.weight and residual.first.weight.requires_grad


def test_what_is_frozen_stays_frozen_and_a_list_stays_one():
    parts = own_nets.parts()
    parts[0][1].requires_grad_(False)
    found = unpack_structure(pack_structure(parts))
    assert isinstance(found, list) and [p.requires_grad for p in found[0].parameters()] == [False, False]


def test_a_module_may_refer_to_functions_of_torch():
    layer = nn.TransformerEncoderLayer(8, 2, 8, activation=nn.functional.gelu, batch_first=True)
    network = nn.Sequential(layer, nn.Linear(8, 2))
    assert unpack_structure(pack_structure(network))[0].activation is nn.functional.gelu


class Lost(nn.Linear):
    """A class that goes."""


def test_a_class_that_is_not_there_is_named(monkeypatch):
    data = pack_structure(nn.Sequential(Lost(3, 2)))
    monkeypatch.delattr("tests.unit.network.test_structure.Lost", raising=False)
    monkeypatch.delitem(globals(), "Lost")
    with pytest.raises(ConfigError, match="a part of the network is not there .given: .*test_structure.Lost.*model="):
        unpack_structure(data)


@pytest.mark.parametrize("name", [
    "torch.nn.modules.module.register_module_forward_hook", "torch.nn.functional.importlib.import_module",
    "torch.nn.init.zeros_", "torch.nn.utils.clip_grad_norm_", "torch.nn.functional.boolean_dispatch",
    "torch._C._nn._parse_to", "torch.nn.functional.handle_torch_function",
])  # fmt: skip
def test_functions_of_torch_that_are_no_layers_are_not_called(name):
    function = attrgetter(name.removeprefix("torch."))(torch)

    class Evil:
        def __reduce__(self):
            return function, (nn.functional.relu,)

    file = io.BytesIO()
    torch.save(Evil(), file)
    before = len(torch.nn.modules.module._global_forward_hooks)
    with pytest.raises(ConfigError, match="a part of the network is no module .given: |cannot be read"):
        unpack_structure(file.getvalue())
    with pytest.raises(ConfigError, match=f"is no module .given: {name}"):
        structure._class_of(name)
    assert len(torch.nn.modules.module._global_forward_hooks) == before


def test_nothing_but_modules_is_made():
    """Bytes that would have another class made, or a function called, are refused before they are read."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, ("made-by-a-pickle",)

    for evil, text in ((Evil(), "is no module .given: posix.mkdir"), ([3], "cannot be read"), (3, "cannot be read")):
        file = io.BytesIO()
        torch.save(evil, file)
        with pytest.raises(ConfigError, match=text):
            unpack_structure(file.getvalue())
    assert not os.path.exists("made-by-a-pickle")
    for data in (b"", b"nothing at all", pack_structure(own_nets.named())[:200]):
        with pytest.raises(ConfigError, match="the structure of the network cannot be read"):
            unpack_structure(data)
