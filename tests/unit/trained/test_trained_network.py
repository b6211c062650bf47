"""A loaded network is a module like any other: moved, copied, read block by block, and trained further."""

import copy

import pytest
import torch
from tests.support import own_nets, resumes, runs

from pipeline.trained.build import load
from pipeline.trained.scoring import evaluate


@pytest.fixture
def network(trained_run):
    return load(trained_run)


X = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def test_its_blocks_one_after_another_are_the_network(network):
    x = X
    for block in network.blocks:
        x = block(x)
    assert torch.equal(x, network(X)) and len(network.blocks) == 4
    own = [p for block in network.blocks for p in block.parameters()]
    assert len(own) > 4 and all(p is q for p, q in zip(network.parameters(), own, strict=True))


def test_each_block_has_its_own_readout_and_the_last_is_the_network(network):
    assert [network.readout(k)(X).shape for k in range(4)] == [(6, 4)] * 4
    assert torch.equal(network.readout(-1)(X), network(X))
    assert not torch.equal(network.readout(0)(X), network(X)) and not network.readout(0)(X).requires_grad


@pytest.mark.parametrize("block", [4, -5])
def test_a_block_that_is_not_there(network, block):
    with pytest.raises(ValueError, match=rf"no such block \(given: {block}, expected: 0 to 3\)"):
        network.readout(block)


def test_a_block_without_a_decoder(tmp_path):
    runs.run(tmp_path / "run", {"train": {"epochs": 1}, "rule": {"name": "sim"}}, base=resumes.TINY)
    network = load(tmp_path / "run")
    with pytest.raises(ValueError, match="has no decoder of its own .given: block 1 under sim.. Read that of the last"):
        network.readout(1)
    assert network.readout(3)(X).shape == (6, 4)


def test_decoders_that_were_not_saved(network, tmp_path):
    saved = load(network.save(tmp_path / "net.safetensors"))
    with pytest.raises(ValueError, match="the decoder of block 0 is not there .given: a network that was saved"):
        saved.readout(0)
    with pytest.raises(ValueError, match="the decoders are not there .given: readouts=True of a network that was"):
        saved.save(tmp_path / "again.safetensors", readouts=True)
    assert torch.equal(saved.readout(3)(X), network(X))


def test_a_copy_is_of_its_own_with_its_readouts(network):
    other = copy.deepcopy(network)
    before = network(X).detach().clone()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    assert torch.equal(network(X), before) and not torch.equal(other(X), before)
    x = X
    for block in other.blocks:
        x = block(x)
    assert torch.equal(x, other(X)) and torch.equal(other.readout(3)(X), other(X))


def test_it_is_converted_with_its_readouts(network):
    assert network.double()(X.double()).dtype == torch.float64
    assert network.readout(0)(X.double()).dtype == torch.float64 and network.recipe.facts.input_shape == (1, 6, 6)


def test_it_has_a_graph_and_can_be_trained_further(network):
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    losses = []
    for _ in range(20):
        torch.manual_seed(1)  # dropout
        loss = torch.nn.functional.cross_entropy(network(X), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0] and all(p.grad is not None for p in network.parameters())
    assert torch.equal(network.eval()(X), network(X)) and torch.equal(network.readout(3)(X), network(X))


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    changes = {"train": {"epochs": 1}, "rule": {"name": "reinforce"}, "model": {
        "norm": "none", "activation": "bernoulli", "dropout": 0.0}}  # fmt: skip
    runs.run(tmp_path / "run", changes, base=resumes.TINY)
    network = load(tmp_path / "run")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = network(X)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(network(X), first) and not torch.equal(network(X, 1), first)


def test_it_computes_with_the_threads_of_the_run_and_leaves_those_of_the_caller(network):
    seen = []
    network.blocks[0].body.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    network(X)
    with torch.no_grad():
        network(X)
    network.readout(3)(X)
    evaluate(network)
    assert set(seen) == {1} and len(seen) > 4 and torch.get_num_threads() == 2
    seen.clear()
    network.train()(X)
    evaluate(network, "run.threads=3")
    assert seen[0] == 2 and set(seen[1:]) == {3}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("name", ["weight_normed", "spectrally_normed", "normed_by_hooks"])
def test_a_named_network_whose_weights_are_computed(tmp_path, name):
    """No such block can be sent to a worker: each is built where it is wanted."""
    changes = {"train": {"epochs": 1}, "rule": {"name": "pred"}, "model": {"name": f"tests.support.own_nets.{name}"}}
    run = runs.run(tmp_path / "run", changes, base=resumes.TINY)
    network = load(tmp_path / "run")
    assert evaluate(tmp_path / "run")["loss"] == evaluate(network)["loss"] == run["test"]["loss"]
    saved = load(network.save(tmp_path / "net.safetensors"))
    assert torch.equal(saved(X), network(X)) and evaluate(saved)["loss"] == run["test"]["loss"]
    mine = getattr(own_nets, name)()
    mine.load_state_dict(network.state_dict())
    assert torch.equal(mine.eval()(X), network(X))


def test_a_network_that_stays_under_its_name_is_not_changed(tmp_path):
    before = {name: tensor.clone() for name, tensor in own_nets.instance.state_dict().items()}
    changes = {"train": {"epochs": 1}, "rule": {"name": "pred"}, "model": {"name": "tests.support.own_nets.instance"}}
    runs.run(tmp_path / "run", changes, base=resumes.TINY)
    network = load(tmp_path / "run")
    assert all(torch.equal(tensor, before[name]) for name, tensor in own_nets.instance.state_dict().items())
    assert not torch.equal(network.stem.weight, own_nets.instance.stem.weight)
