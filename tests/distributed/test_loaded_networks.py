"""A run's network, loaded: the bits that the run evaluated, for every rule, model and way to hand over a network."""

import copy
from pathlib import Path

import pytest
import torch
from tests.support import own_nets, resumes, runs
from tests.support.products import rare, square
from tests.support.trained_networks import check_loaded
from torch import nn

from pipeline import registry

pytestmark = pytest.mark.distributed
PLAIN = {"norm": "none", "activation": "tanh", "dropout": 0.0}
SAMPLED = {"norm": "none", "activation": "bernoulli", "dropout": 0.0}
NETS = {
    "ifa": PLAIN, "lra_diff": {**PLAIN, "boundary": "half"}, "reinforce": SAMPLED, "slope_annealing": SAMPLED,
    "straight_through": SAMPLED, "sigmoid_adjusted": SAMPLED, "pc": PLAIN, "tp": PLAIN, "dtp": PLAIN,
    "lra_fdbk": PLAIN, "lra_rnn": PLAIN, "am_mem": {**PLAIN, "boundary": "half"}, "eqprop": PLAIN,
}  # fmt: skip
MODELS = {name: {} for name in registry.known("pipeline.models") if name != "mlp"}
MODELS |= {"vgg8b": {"width": 0.0625}, "vgg11b": {"width": 0.0625}}
SEQUENCES = {
    "rnn": {"name": "sine", "length": 12, "num_train": 40, "num_test": 30},
    "transformer": {"name": "text", "window": 9, "windows": 40},
}  # fmt: skip
MODELS |= {"rnn": {"depth": 2, "width": 6}, "transformer": {"depth": 2, "layers_per_block": 1, "width": 8, "heads": 2}}
RULES = registry.known("pipeline.rules")
USUAL = {
    "predsim", "linear_decoder", "sim_bio", "dfa", "sdfa", "reinforce", "fa", "dtp", "slope_annealing", "backprop",
    "lra_diff", "pc", "ifa",
}  # fmt: skip
"""Three of each topology at least, where there are so many."""
TINY = runs.merged(resumes.TINY, {"train": {"epochs": 2}, "snapshot": {"keep": 1}})
NOISE = {"name": "noise", "shape": [3, 16, 16], "num_train": 40, "num_test": 30, "num_classes": 4}
FORMATS = {
    "autocast": {"run": {"autocast": "bfloat16"}},
    "wire": {"transport": {"wire": "int8"}},
    "wire of feedback": {"transport": {"wire": "bfloat16"}, "rule": {"name": "dtp"}, "model": PLAIN},
    "channels last": {
        "run": {"channels_last": True}, "model": {"name": "tests.support.conv_net.small"},
        "dataset": {"name": "noise", "shape": [1, 8, 8], "num_classes": 10, "num_train": 40}},
    "autograd": {"run": {"closed_form": False}, "model": PLAIN, "rule": {"name": "linear_decoder"}},
    "what is kept of samples": {
        "rule": {"name": "eqprop", "form": "energy", "free_rounds": 4, "nudged_rounds": 3, "persistent": True},
        "model": {**PLAIN, "activation": "clip"}},
    "logistic": {"train": {"loss": "logistic"}, "rule": {"name": "dfa"}},
    "several passes": {"train": {"eval_passes": 3}, "model": SAMPLED, "rule": {"name": "pred"}},
    "two threads": {"run": {"threads": 2}},
    "small batches": {"train": {"eval_batch_size": 7}},
    "one by one": {"schedule": {"mode": "sequential", "patience": 1}, "rule": {"name": "pred"}},
    "a baseline": {"schedule": {"mode": "gpipe"}, "model": PLAIN},
}  # fmt: skip


def run(out, changes, model=None):
    return runs.run(out, changes, base=TINY, model=model)


def loaded(tmp_path, changes, model=None, **kwargs):
    """A run of two epochs, its network compared; and the run's result."""
    result = run(tmp_path / "run", changes, model=model)
    return check_loaded(tmp_path / "run", result, folder=tmp_path, data_root=tmp_path, **kwargs)


@pytest.mark.parametrize("rule", rare(RULES, but=USUAL))
def test_every_rule(rule, tmp_path):
    loaded(tmp_path, {"rule": {"name": rule}, "model": {"name": "mlp", "depth": 3, "width": 12, **NETS.get(rule, {})}})


@pytest.mark.parametrize("rule", ["tests.support.settling_rule", "tests.support.synthetic_gradients"])
def test_rules_of_ones_own(rule, tmp_path):
    loaded(tmp_path, {"rule": {"name": rule}, "model": PLAIN})


@pytest.mark.parametrize("name", MODELS)
def test_every_model(name, tmp_path):
    data, rule = SEQUENCES.get(name, NOISE), "pred" if name in SEQUENCES else "predsim"
    if name == "transformer":
        path = tmp_path / "a.txt"
        path.write_bytes(bytes(ord("a") + k * k % 23 for k in range(1500)))
        data = {**data, "path": str(path)}
    loaded(tmp_path, {"model": {"name": name, **MODELS[name]}, "dataset": data, "rule": {"name": rule}})


def test_every_position_has_its_scale_on_a_wire(tmp_path):
    model = {"name": "rnn", "depth": 2, "width": 6}
    changes = {"model": model, "dataset": SEQUENCES["rnn"], "rule": {"name": "backprop"}}
    loaded(tmp_path, {**changes, "transport": {"wire": "int8"}})


@pytest.mark.parametrize("name", FORMATS)
def test_formats_of_a_run(name, tmp_path):
    loaded(tmp_path, FORMATS[name])


def test_one_output_for_two_classes(tmp_path):
    data = {"name": "signed_xor", "num_train": 96, "num_test": 50}
    loaded(tmp_path, {"dataset": data, "rule": {"name": "linear_decoder"}, "model": PLAIN})


WAYS = {"object": None, "function": "tests.support.own_nets.named", "instance": "tests.support.own_nets.instance"}


@pytest.mark.parametrize(("way", "rule"), square(list(WAYS), ["predsim", "dfa", "backprop"]))
def test_a_users_network_takes_the_weights_back(way, rule, tmp_path):
    name = WAYS[way]
    mine = own_nets.named()
    before = copy.deepcopy(mine.state_dict())
    changes = {"rule": {"name": rule}, **({"model": {"name": name}} if name else {})}
    network = loaded(tmp_path, changes, model=None if name else mine)
    assert list(network.state_dict()) == list(before) and isinstance(network, nn.Sequential)
    assert all(torch.equal(before[k], v) for k, v in mine.state_dict().items())  # what was handed over is left alone
    assert str(mine.load_state_dict(network.state_dict())) == "<All keys matched successfully>"
    torch.set_num_threads(1)
    x = torch.rand(6, 1, 6, 6)
    assert torch.equal(mine.eval()(x), network(x))


def test_what_a_users_module_draws_is_drawn_again(tmp_path):
    network = loaded(tmp_path, {"rule": {"name": "pred"}, "model": {"name": "tests.support.own_nets.noisy"}})
    x = torch.rand(6, 1, 6, 6)
    assert network(x).requires_grad and not torch.equal(network(x), network(x, 1))


def test_a_rule_of_ones_own_that_does_not_say_what_it_does_has_no_graph(tmp_path):
    network = loaded(tmp_path, {"rule": {"name": "tests.support.epoch_rule"}, "model": PLAIN})
    x = torch.rand(3, 1, 6, 6)
    assert not network(x).requires_grad
    with pytest.raises(TypeError, match="the rule does not say what its forward pass does .given: Epochal without"):
        network.train()(x)


def test_a_list_of_modules(tmp_path):
    mine = own_nets.parts()
    network = loaded(tmp_path, {"rule": {"name": "pred"}}, model=mine)
    for module, trained in zip(mine, network, strict=True):
        module.load_state_dict(trained.state_dict())
    torch.set_num_threads(1)
    x = torch.rand(6, 1, 6, 6)
    assert torch.equal(mine[1](mine[0](x)), network(x))
    assert isinstance(network[0:1], nn.Sequential) and len(network[0:1]) == 1 and network[1] is list(network)[1]


def test_the_object_may_be_passed_again_and_is_left_as_it_is(tmp_path):
    mine = own_nets.named()
    before = copy.deepcopy(mine.state_dict())
    loaded(tmp_path, {"rule": {"name": "pred"}}, model=mine)
    table = tmp_path / "run" / "network.json"
    table.write_text(table.read_text().replace('"structure": "', '"structure": null, "was": "'))
    result = run(tmp_path / "again", {"rule": {"name": "pred"}}, model=mine)
    network = check_loaded(tmp_path / "run", result, folder=tmp_path, data_root=tmp_path, model=mine)
    assert all(torch.equal(before[k], v) for k, v in mine.state_dict().items())
    assert not torch.equal(network.state_dict()["stem.weight"], before["stem.weight"])


def test_a_run_of_several_processes_and_an_earlier_one_without_the_facts(tmp_path):
    placed = {"run": {"stages": 2}, "transport": {"name": "shared_memory"}}
    result = run(tmp_path / "run", placed)
    check_loaded(tmp_path / "run", result, folder=tmp_path, data_root=tmp_path)
    Path(tmp_path / "run" / "network.json").unlink()
    check_loaded(tmp_path / "run", result, folder=tmp_path, data_root=tmp_path)
