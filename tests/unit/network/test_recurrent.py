import pytest
import torch
from torch import nn

from pipeline.network.recurrent import Carried, Recurrent, carried_in, elman_steps

CELLS = ["elman", "lstm", "gru"]


def layer(cell="elman", **options):
    torch.manual_seed(0)
    return Recurrent(cell, 3, 5, **options)


X = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(1))


def chunks(found, lengths, trains=True):
    outs = []
    for k, x in enumerate(torch.split(X, lengths, 1)):
        found.carried.announce(trains=trains, rows=slice(4), num_rows=4, is_start=k == 0, is_end=False)
        outs.append(found(x))
    return torch.cat(outs, 1)


@pytest.mark.parametrize("cell", [*CELLS, "linear"])
def test_chunks_with_a_carried_state_are_the_whole_sequence(cell):
    found = layer() if cell != "linear" else layer(unit="linear")
    found = layer(cell) if cell in CELLS else found
    whole = found(X)
    torch.testing.assert_close(chunks(found, [2, 3, 1]), whole, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(torch.cat([found(x) for x in torch.split(X, 2, 1)], 1), whole)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("truncate", [0, 2])
def test_what_is_sent_lies_in_memory_as_a_message_does(cell, truncate):
    """A product may round another layout differently, and a block above would be fed by either, on one stage or two."""
    assert layer(cell, truncate=truncate)(X).is_contiguous()


def test_no_gradient_leaves_a_chunk():
    found = layer()
    out = chunks(found, [3, 3])
    (whole,) = torch.autograd.grad(out[:, 3:].sum(), found.weights().input)
    again = layer()
    start = found(X[:, :3])[:, -1:].detach().transpose(0, 1)
    (alone,) = torch.autograd.grad(again.layer(X[:, 3:], start)[0].sum(), again.weights().input)
    torch.testing.assert_close(whole, alone)


@pytest.mark.parametrize("cell", CELLS)
def test_truncation_stops_the_gradient_and_changes_no_unit(cell):
    plain, cut = layer(cell), layer(cell, truncate=2)
    torch.testing.assert_close(plain(X), cut(X))
    grads = []
    for found in (plain, cut):
        x = X.clone().requires_grad_()
        found(x)[:, 3].sum().backward()
        grads.append(x.grad)
    assert grads[0][:, :4].ne(0).any(2).all() and torch.equal(grads[1][:, :2], torch.zeros(4, 2, 3))
    assert grads[1][:, 2:4].ne(0).any(2).all()


def test_only_an_announced_pass_reads_and_writes_the_state():
    found = layer()
    chunks(found, [3, 3])
    kept = found.carried.state.clone()
    found(X)
    assert torch.equal(found.carried.state, kept) and kept.shape == (4, 1, 5)
    chunks(found, [2, 4], trains=False)
    assert torch.equal(found.carried.state, kept)


def test_parts_of_a_batch_keep_rows_of_their_own_and_a_smaller_batch_the_first():
    found, whole = layer(), layer()
    for number, x in enumerate((X[:, :3], X[:, 3:])):
        parts = []
        for rows in (slice(0, 3), slice(3, 4)):
            found.carried.announce(trains=True, rows=rows, num_rows=4, is_start=number == 0, is_end=False)
            parts.append(found(x[rows]))
        whole.carried.announce(trains=True, rows=slice(4), num_rows=4, is_start=number == 0, is_end=False)
        torch.testing.assert_close(torch.cat(parts), whole(x))
    before = found.carried.state.clone()
    found.carried.announce(trains=True, rows=slice(2), num_rows=2, is_start=False, is_end=False)
    found(X[:2])
    assert torch.equal(found.carried.state[2:], before[2:]) and not torch.equal(found.carried.state[:2], before[:2])


def test_a_state_is_put_back_or_taken_away():
    carried = Carried(3)
    assert carried.state is None
    carried.state = torch.ones(2, 1, 3)
    carried.announce(trains=True, rows=slice(1, 2), num_rows=2, is_start=False, is_end=False)
    assert torch.equal(carried.before(), torch.ones(1, 1, 3))
    carried.state = None
    assert carried.before() is None


def test_layers_are_found_by_their_names_and_carry_nothing_in_their_weights():
    net = nn.Sequential(nn.Embedding(3, 3), layer(), nn.Linear(5, 2))
    assert [name for name, _ in carried_in(net)] == ["1"]
    assert all("carried" not in name for name in net.state_dict())


@pytest.mark.parametrize("bias", [True, False])
def test_steps_are_those_of_torch(bias):
    found = layer(bias=bias)
    start = torch.randn(4, 5)
    h, z = elman_steps(found, X, start)
    out, _ = found.layer(X, start.unsqueeze(0))
    assert h.shape == (4, 6, 5) and torch.equal(z[:, 0], start)
    torch.testing.assert_close(z[:, 1:], out)
    torch.testing.assert_close(h.tanh(), out)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_weights_may_start_orthogonal(cell):
    for gate in layer(cell, radius=0.5).weights().recurrent.split(5):
        torch.testing.assert_close(gate @ gate.T, torch.eye(5) * 0.25)
