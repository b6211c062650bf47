import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models import rnn
from pipeline.network.block import build_block
from pipeline.network.shapes import infer_shapes


def net(shape, num_outputs=3, **options):
    return [build_block(b, 0, k) for k, b in enumerate(rnn.build(shape, num_outputs, width=5, **options))]


def test_an_elman_block_is_its_equation():
    block, read_out = net((4, 2))
    layer = block.body[0].layer
    x = torch.randn(6, 4, 2)
    state, states = torch.zeros(6, 5), []
    for t in range(4):
        recurrent = state @ layer.weight_hh_l0.T + layer.bias_hh_l0
        state = (x[:, t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + recurrent).tanh()
        states.append(state)
    out = block(x)
    torch.testing.assert_close(out, torch.stack(states, 1), rtol=1e-5, atol=1e-6)
    linear = read_out.body[-1]
    torch.testing.assert_close(read_out(out), out @ linear.weight.T + linear.bias)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
@pytest.mark.parametrize("shape", [(4, 2), (4,)])
def test_every_cell_reads_numbers_or_tokens_and_nothing_ahead(cell, shape):
    blocks = net(shape, cell=cell, depth=2, embedding=7)
    x = torch.randn(6, *shape) if len(shape) == 2 else torch.randint(3, (6, *shape))
    changed = x.clone()
    changed[:, 3:] = 0
    out, other = x, changed
    for block in blocks:
        out, other = block(out), block(other)
    assert out.shape == (6, 4, 3) and torch.equal(out[:, :3], other[:, :3]) and not torch.equal(out, other)


def test_the_last_step_alone_may_be_read():
    dtype = torch.float32
    shapes = infer_shapes(rnn.build((4, 2), 3, width=5, reads="last"), (4, 2), (3,), dtype)
    assert [s.out_shape for s in shapes] == [(4, 5), (3,)]
    blocks = net((4, 2)), net((4, 2), reads="last")
    x = torch.randn(6, 4, 2)
    each, last = (read_out(block(x)) for block, read_out in blocks)
    torch.testing.assert_close(each[:, -1], last)


def test_pictures_are_no_sequences():
    with pytest.raises(ConfigError, match=r"reads sequences \(given: samples of shape \(1, 8, 8\), expected: \(length"):
        rnn.build((1, 8, 8), 3)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
@pytest.mark.parametrize(("trains", "fixed"), [("all", 0), ("inputs", 2), ("none", 5)])
def test_recurrent_weights_or_the_whole_layer_may_be_fixed(cell, trains, fixed):
    block, read_out = net((4,), cell=cell, layer=rnn.LayerOptions(trains=trains))
    names = [name for name, p in block.named_parameters() if not p.requires_grad]
    assert len(names) == fixed and all(p.requires_grad for p in read_out.parameters())
    assert trains != "inputs" or all("_hh_" in name for name in names)


def test_behind_a_half_block_the_read_out_begins_with_its_unit():
    options = {"layer": rnn.LayerOptions(unit="relu")}
    whole, half = net((4, 2), **options), net((4, 2), boundary="half", **options)
    x = torch.randn(6, 4, 2)
    sent = half[0](x)
    assert sent.lt(0).any()
    torch.testing.assert_close(sent.relu(), whole[0](x))
    torch.testing.assert_close(half[1](sent), whole[1](whole[0](x)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"cell": "gru", "layer": rnn.LayerOptions(unit="relu")}, "the cell has units of its own .*'relu'.*'gru'"),
     ({"boundary": "half", "depth": 2}, "only one Elman block can send its pre-activations .* model.depth = 2")],
)  # fmt: skip
def test_units_and_boundaries_that_a_network_does_not_have(options, expected):
    with pytest.raises(ConfigError, match=expected):
        rnn.build((4, 2), 3, **options)
