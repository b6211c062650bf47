"""The linear toy: its samples, its weights, and gradients through its feedback matrix."""

import pytest
import torch

from benchmarks.published.lillicrap import TABLES
from pipeline.measure.samples import load_samples
from pipeline.measure.whole_network import WholeNetwork
from pipeline.resolve import resolve

CELLS = {cell.name: cell for cell in TABLES[0].cells}


def toy(name, folder, seed=0):
    resolved = resolve(CELLS[name].checked(seed), folder)
    network = WholeNetwork(resolved, 0, None, torch.device("cpu"))
    return resolved, network, load_samples(resolved, folder, torch.device("cpu"))


def test_samples_are_one_linear_map_of_their_inputs(tmp_path):
    resolved, _, samples = toy("fa", tmp_path)
    x, y = samples.batch
    assert x.shape == (512, 30) and y.shape == (512, 10)
    found = torch.linalg.lstsq(x, y).solution
    torch.testing.assert_close(x @ found, y, rtol=0, atol=1e-4)
    assert 0.9 < found.abs().max() <= 1.0 + 1e-4
    x, y = samples.test.batch(0, 0)
    torch.testing.assert_close(x @ found, y, rtol=0, atol=1e-4)
    assert resolved.batching.num_steps * resolved.config.train.epochs == 2000


def test_weights_and_matrix_have_the_given_bounds_and_depend_on_the_seed(tmp_path):
    _, network, _ = toy("fa", tmp_path)
    matrix = network._rules[1].matrix
    assert matrix.shape == (10, 20) and 0.4 < matrix.abs().max() <= 0.5
    for weight, shape in zip(network.weights(), [(20, 30), (10, 20)], strict=True):
        assert weight[0].shape == shape and 0.009 < weight[0].abs().max() <= 0.01
    _, other, _ = toy("fa", tmp_path, seed=1)
    assert not torch.equal(other._rules[1].matrix, matrix)
    assert not torch.equal(other.weights()[0][0], network.weights()[0][0])


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_those_through_the_matrix(name, tmp_path):
    _, network, samples = toy(name, tmp_path)
    (x, y), (first, second) = samples.batch, network.weights()
    hidden = x @ first[0].t()
    error = (hidden @ second[0].t() - y) * (2 / y.numel())
    back = network._rules[1].matrix if name == "fa" else second[0]
    found = network.learned(x, y)
    torch.testing.assert_close(found[0][0], (error @ back).t() @ x)
    torch.testing.assert_close(found[1][0], error.t() @ hidden)
