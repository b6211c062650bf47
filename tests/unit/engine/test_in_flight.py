from dataclasses import dataclass

import pytest
import torch
from torch import nn

from pipeline.engine.in_flight import SavedTensors
from pipeline.engine.message import TensorSpec
from pipeline.numerics.packed import padded
from workers.transports._packing import pack, unpack


def test_counts_what_autograd_keeps():
    body = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    saved = SavedTensors(body.parameters())
    x = torch.randn(5, 4)
    with saved.watch():
        body(x)
    # the input of each linear layer, the second being what tanh returned and keeps itself; weights are not held
    assert saved.num_bytes == 5 * 4 * 4 + 5 * 3 * 4


def test_a_storage_counts_once_and_whole():
    saved = SavedTensors([])
    x = torch.randn(6, 4, requires_grad=True)
    with saved.watch():
        _ = x * x, x[:2] * x[2:4]
    assert saved.num_bytes == 6 * 4 * 4


@pytest.mark.parametrize("rows", [8, 10, 11])
@pytest.mark.parametrize(("count", "batches"), [(1, 1), (4, 1), (5, 2), (0, 0)])
def test_a_batch_is_held_once_by_all_of_its_parts(count, batches, rows):
    """Micro-batches are views of their batch, the first ones a row longer than the last; each has its own outputs."""
    linear = nn.Linear(4, 3)
    saved = SavedTensors(linear.parameters())
    batch, labels = torch.randn(rows, 4), torch.zeros(rows, dtype=torch.int64)
    part, y = batch.tensor_split(4)[0], labels.tensor_split(4)[0]
    with saved.watch(part, y):
        saved.add([linear(part).tanh(), y])
    assert saved.bytes_of(count) == count * len(part) * 3 * 4 + batches * (batch.nbytes + labels.nbytes)


def test_parts_of_one_message_are_no_parts_of_a_batch():
    """What comes over an edge lies in the memory of its message, which each micro-batch has of its own."""
    tensors = torch.randn(4, 8), torch.zeros(4, dtype=torch.int64)
    buffer = torch.empty(padded(tensors[0].nbytes) + padded(tensors[1].nbytes), dtype=torch.uint8)
    pack(tensors, buffer)
    x, y = unpack([TensorSpec(tuple(t.shape), t.dtype) for t in tensors], buffer)
    saved = SavedTensors([])
    with saved.watch(x, y):
        saved.add([x, y])
    assert saved.bytes_of(8) == 8 * buffer.nbytes


def test_what_blocks_hold_one_after_another_is_not_added_up():
    """The first has the batch's storage, the second one its own tensors, of which there are more."""
    saved = SavedTensors([])
    batch = torch.randn(8, 4)
    part = batch[:2]
    with saved.watch(part):
        saved.add([part, part.clone()])
    later = torch.randn(2, 24)
    with saved.watch(later):
        saved.add([later])
    assert [saved.bytes_of(count) for count in (1, 4)] == [
        max(part.nbytes + batch.nbytes, later.nbytes), max(4 * part.nbytes + batch.nbytes, 4 * later.nbytes)
    ]


def test_what_is_no_part_of_a_batch_is_each_micro_batchs_own():
    saved = SavedTensors([])
    x = torch.randn(6, 4, requires_grad=True)
    with saved.watch(x, torch.zeros(6)):
        _ = x * x
    assert saved.bytes_of(3) == 3 * saved.num_bytes == 3 * x.nbytes


@pytest.mark.parametrize(
    ("weights", "stashed", "expected"),
    [(False, False, 1), (True, False, 0), (True, True, 1)],
    ids=["unknown", "weights", "stashed"],
)
def test_weights_count_where_they_are_copied(weights, stashed, expected):
    linear = nn.Linear(4, 3, bias=False)
    saved = SavedTensors(linear.parameters() if weights else (), linear.parameters() if stashed else ())
    x = torch.randn(5, 4, requires_grad=True)  # so that the weight is saved as well
    with saved.watch():
        linear(x)
    assert saved.num_bytes == 5 * 4 * 4 + expected * 4 * 3 * 4


@dataclass
class Context:
    x: torch.Tensor
    parts: list
    label: int = 0


def test_what_rules_keep_is_found_in_lists_and_dataclasses():
    saved = SavedTensors([])
    with saved.watch():
        saved.add([Context(torch.zeros(3), [torch.zeros(2), Context(torch.zeros(4), [])]), (torch.zeros(5),), None])
    assert saved.num_bytes == (3 + 2 + 4 + 5) * 4


def test_only_while_it_watches_only_with_a_graph_and_the_most_of_all_times():
    saved = SavedTensors([])
    x = torch.randn(5, 4, requires_grad=True)
    for size, most in ((2, 2), (5, 5), (3, 5)):
        with saved.watch():
            _ = x[:size].clone() * 2.0, x.detach()[:size].clone() * x[:size]
        assert saved.num_bytes == most * 4 * 4
    other = SavedTensors([])
    with other.watch(), torch.no_grad():
        _ = x * x
    _ = x * x
    assert other.num_bytes == 0


def test_watching_changes_no_gradient():
    body = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.BatchNorm1d(3))
    x = torch.randn(5, 4)
    expected = torch.autograd.grad(body(x).square().sum(), list(body.parameters()))
    with SavedTensors(body.parameters(), body.parameters()).watch():
        out = body(x)
    found = torch.autograd.grad(out.square().sum(), list(body.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("stash", [True, False])
def test_a_gradient_after_a_step_is_that_of_the_weights_that_were_used(stash):
    body = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    x = torch.randn(5, 4, requires_grad=True)
    wanted = [x, *body.parameters()]
    expected = torch.autograd.grad(body(x).square().sum(), wanted)
    with SavedTensors(body.parameters(), body.parameters() if stash else ()).watch():
        out = body(x).square().sum()
    for p in body.parameters():
        p.data += 1.0  # as a fused step does it: past autograd's version counter
    found = torch.autograd.grad(out, wanted)
    same = all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert same == stash
