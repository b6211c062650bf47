"""What every transport promises, over all that connect stages on the CPU: the same programs in one thread and in real
processes, as each of them declares."""

import os
import signal
import time

import pytest
import torch
from tests.support.processes import results, run_stages, sign, wait_for
from tests.support.products import rare
from tests.support.stage_programs import Recv, Send, message, open_transport, run_programs

from pipeline.engine.message import DTYPES, Kind
from pipeline.registry import known
from workers.transport import PACKAGE, Devices, Reach, TransportTimeout, capabilities_of

OWN = known(PACKAGE)
NAMES = [*OWN, "tests.support.split_hosts.build", "tests.support.gloo_group"]
"""Onward's own; a run that is split over hosts, and gloo on the CPU, as nccl is used: those two only with --full."""
CPU = [name for name in NAMES if Devices.CPU in capabilities_of(name).devices]
ALL = rare(CPU, but=OWN)
PROCESSES = rare([name for name in CPU if capabilities_of(name).reach is not Reach.PROCESS], but=OWN)
FORWARD = [(0, 1, 4, 4096)]
BOTH_WAYS = [(0, 1, 2, 4096), (1, 0, 2, 4096)]

pytestmark = [pytest.mark.distributed, pytest.mark.usefixtures("nothing_left")]


# Order and content ----------------------------------------------------------------------------------------------


def _counting(stage_index, count):
    taken = []
    for step in range(count):
        if stage_index == 0:
            yield Send(message(torch.full((step % 7, 3), step), torch.tensor(step), step=step), 1)
        else:
            received = yield Recv(0)
            body, number = received.tensors
            assert body.shape == (step % 7, 3) and bool((body == step).all())
            taken.append((received.position.step, int(number)))
    return taken


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("depth", [1, 4])
def test_keeps_the_order_under_load_and_variable_batch_sizes(name, depth, tmp_path):
    _, taken = run_programs(name, _counting, tmp_path, [(0, 1, depth, 256)], 400)
    assert taken == [(step, step) for step in range(400)]


def _zoo():
    """Messages of every dtype and shape, and of every way in which memory and values can disagree."""
    generator = torch.Generator().manual_seed(0)
    messages = []
    for dtype in DTYPES:
        tensors = []
        for shape in [(), (0,), (3, 0, 2), (1,), (5, 7), (2, 3, 4, 5)]:
            tensors.append((torch.rand(shape, generator=generator) * 100 - 50).to(dtype))
        messages.append(message(*tensors))
    grid = torch.rand(6, 8, generator=generator)
    complex_grid = torch.complex(grid, grid + 1)
    messages.append(message(grid.t(), grid[::2, 1::3], grid[0].expand(4, 8), grid[:, 5]))
    messages.append(message(complex_grid.conj(), complex_grid.conj().imag, complex_grid.real))
    messages.append(message(torch.rand(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last)))
    messages.append(message(grid.clone().requires_grad_() * 2, kind=Kind.FEEDBACK))
    messages.append(message())
    messages.append(message(*(torch.full((n,), n) for n in range(40))))
    messages.append(message(torch.zeros((1,) * 20), torch.ones(3)))
    return messages


def _show_zoo(stage_index):
    checked = 0
    for sent in _zoo():
        if stage_index == 0:
            yield Send(sent, 1)
            continue
        received = yield Recv(0)
        assert (received.kind, received.weight) == (sent.kind, 1.0)
        assert [t.shape for t in received.tensors] == [t.shape for t in sent.tensors]
        for got, expected in zip(received.tensors, sent.tensors):
            assert got.dtype == expected.dtype and torch.equal(got, expected)
            assert got.is_contiguous() and not got.requires_grad and not got.is_conj() and not got.is_neg()
            checked += 1
    return checked


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("slot_bytes", [65536, 64])
def test_carries_every_dtype_shape_and_layout(name, slot_bytes, tmp_path):
    _, checked = run_programs(name, _show_zoo, tmp_path, [(0, 1, 2, slot_bytes)])
    assert checked == sum(len(m.tensors) for m in _zoo())


def _large(stage_index):
    sums = []
    for step in range(5):
        body = torch.arange(30_000 + step, dtype=torch.float32)
        if stage_index == 0:
            yield Send(message(body, torch.tensor([step])), 1)
        else:
            received = yield Recv(0)
            sums.append(torch.equal(received.tensors[0], body) and int(received.tensors[1]) == step)
    return sums


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("depth", [1, 3])
def test_passes_what_is_larger_than_a_slot(name, depth, tmp_path):
    assert run_programs(name, _large, tmp_path, [(0, 1, depth, 1000)])[1] == [True] * 5


def _overwriting(stage_index, rounds, size):
    corrupted = 0
    body = torch.empty(size)
    for step in range(rounds):
        if stage_index == 0:
            body.fill_(step)
            yield Send(message(body, body[: size // 2]), 1)
            body.fill_(-1.0)
        else:
            received = yield Recv(0)
            corrupted += any(not bool((t == step).all()) for t in received.tensors)
    return corrupted


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("rounds", "size"), [(1000, 300), (150, 100_000)])
def test_send_owns_a_copy(name, rounds, size, tmp_path):
    assert run_programs(name, _overwriting, tmp_path, [(0, 1, 3, 6 * size)], rounds, size)[1] == 0


def _learning(stage_index):
    if stage_index == 0:
        yield Send(message(torch.ones(8), torch.zeros(8)), 1)
        return None
    received = yield Recv(0)
    activation, labels = received.tensors
    weight = torch.ones(8, requires_grad=True)
    loss = (weight * activation).sum()
    labels.add_(1.0)
    loss.backward()
    activation.mul_(0.0)
    return weight.grad.tolist(), labels.tolist()


@pytest.mark.parametrize("name", ALL)
def test_received_tensors_belong_to_the_caller_one_by_one(name, tmp_path):
    assert run_programs(name, _learning, tmp_path, FORWARD)[1] == ([1.0] * 8, [1.0] * 8)


# Several edges --------------------------------------------------------------------------------------------------


def _feedback(stage_index, count, in_flight):
    """Stage 0 keeps ``in_flight`` activations on their way; both queues are full most of the time."""
    returned = []
    if stage_index == 1:
        for _ in range(count):
            received = yield Recv(0)
            yield Send(message(received.tensors[0] * 2, step=received.position.step, kind=Kind.FEEDBACK), 0)
        return returned
    for step in range(count + in_flight):
        if step < count:
            yield Send(message(torch.full((64, 16), float(step)), step=step), 1)
        if step >= in_flight:
            received = yield Recv(1)
            returned.append((received.position.step, float(received.tensors[0].mean())))
    return returned


@pytest.mark.parametrize("name", ALL)
def test_full_queues_in_both_directions(name, tmp_path):
    returned, _ = run_programs(name, _feedback, tmp_path, BOTH_WAYS, 200, 4)
    assert returned == [(step, 2.0 * step) for step in range(200)]


def _broadcast(stage_index, count):
    errors = []
    for step in range(count):
        if stage_index > 0:
            received = yield Recv(stage_index - 1)
            body = received.tensors[0] + 1
        else:
            body = torch.full((4,), float(step))
        if stage_index < 2:
            yield Send(message(body, step=step), stage_index + 1)
            received = yield Recv(2)
            errors.append((received.position.step, received.tensors[0].tolist()))
        else:
            for dst in (0, 1):
                yield Send(message(body * 10, step=step, kind=Kind.FEEDBACK), dst)
    return errors


@pytest.mark.parametrize("name", ALL)
def test_last_stage_speaks_to_all(name, tmp_path):
    edges = [(0, 1, 1, 64), (1, 2, 1, 64), (2, 0, 1, 64), (2, 1, 1, 64)]
    first, second, _ = run_programs(name, _broadcast, tmp_path, edges, 50, num_stages=3)
    assert first == second == [(step, [10.0 * (step + 2)] * 4) for step in range(50)]


def _deep(stage_index, count):
    if stage_index == 0:
        for step in range(count):
            yield Send(message(torch.tensor(step), step=step), 1)
        received = yield Recv(1)
        return received.position.step
    for _ in range(count):
        received = yield Recv(0)
    yield Send(message(step=received.position.step), 0)


@pytest.mark.parametrize("name", ALL)
def test_queue_deeper_than_a_socket_buffer(name, tmp_path):
    """More credits than the kernel takes while the sender reads none of them must not stop the receiver."""
    assert run_programs(name, _deep, tmp_path, [(0, 1, 2000, 8), (1, 0, 1, 8)], 3000)[0] == 2999


def _flood(stage_index, count):
    """Both send all that the edges have room for, and read then."""
    peer, steps = 1 - stage_index, []
    for step in range(count):
        yield Send(message(torch.tensor(step), step=step), peer)
    for _ in range(count):
        received = yield Recv(peer)
        steps.append(received.position.step)
    return steps


@pytest.mark.parametrize("name", ALL)
def test_two_that_send_before_they_read_do_not_lock_up(name, tmp_path):
    """As many messages as edges are deep, which is more than the kernel holds for a socket."""
    assert run_programs(name, _flood, tmp_path, [(0, 1, 600, 8), (1, 0, 600, 8)], 600) == [list(range(600))] * 2


# Limits ---------------------------------------------------------------------------------------------------------


FULL = (3, 6)
"""Messages that an edge of depth 3 takes before anyone receives: the queue may stand at one end or at both."""


def _send_until_full(transport, taken):
    """What the transport says when it takes no more; on a busy machine it may time out before the queue is full."""
    deadline = time.monotonic() + 20.0
    while True:
        try:
            transport.send(message(torch.tensor(len(taken)), step=len(taken)), 1, 0.3)
            taken.append(len(taken))
            assert len(taken) <= FULL[-1]
        except TransportTimeout as full:
            if len(taken) in FULL or time.monotonic() > deadline:
                return str(full)


def _fill_up(stage_index, folder, name):
    transport = open_transport(name, stage_index, folder, [(0, 1, 3, 64)])
    taken = []
    if stage_index == 0:
        text = _send_until_full(transport, taken)
        sign(folder, "full")
        transport.close(20.0)
        return taken, text, None
    wait_for(folder, "full")
    fill, held = transport.fill(0), transport.queue_bytes()
    with pytest.raises(TransportTimeout) as empty:
        while True:  # until stage 0 is gone, which is as soon as all has been received
            taken.append(transport.recv(0, 20.0)[0].position.step)
    closed_fill = transport.fill(0)
    transport.close(20.0)
    return taken, str(empty.value), (fill, held, closed_fill)


@pytest.mark.parametrize("name", PROCESSES)
def test_bounded_and_both_ends_named(name, tmp_path):
    (sent, full, _), (taken, empty, (fill, held, left)) = results(_fill_up, 2, tmp_path, name)
    assert taken == sent, "what timed out must not arrive"
    assert len(sent) in FULL
    assert (fill, left) == (3, 0)
    assert "stage 0 -> stage 1: no room within 0.3 s (queue depth: 3)" in full
    assert "stage 0 -> stage 1: stage 0 is gone" in empty


def _nothing_comes(stage_index, folder, name):
    transport = open_transport(name, stage_index, folder, FORWARD)
    text = None
    if stage_index == 1:
        with pytest.raises(TransportTimeout) as empty:
            transport.recv(0, 0.2)
        text = str(empty.value)
        sign(folder, "late")
        assert transport.recv(0, 20.0)[0].position.step == 7, "a time-out does not close the edge"
    else:
        wait_for(folder, "late")
        transport.send(message(step=7), 1, 20.0)
    transport.close(20.0)
    return text


@pytest.mark.parametrize("name", PROCESSES)
def test_recv_names_both_ends_and_the_seconds(name, tmp_path):
    text = results(_nothing_comes, 2, tmp_path, name)[1]
    assert "stage 0 -> stage 1: nothing came within 0.2 s" in text and "stage 0 from sending" in text


# The end --------------------------------------------------------------------------------------------------------


def _slow_reader(stage_index, folder, name):
    transport = open_transport(name, stage_index, folder, FORWARD)
    if stage_index == 0:
        for step in range(4):
            transport.send(message(torch.zeros(100), step=step), 1, 20.0)
        transport.close(20.0)
        return time.monotonic()
    for _ in range(4):
        time.sleep(0.1)
        asked = time.monotonic()
        transport.recv(0, 20.0)
    transport.close(20.0)
    return asked


@pytest.mark.parametrize("name", PROCESSES)
def test_close_returns_after_everything_was_received(name, tmp_path):
    closed, asked_for_the_last = results(_slow_reader, 2, tmp_path, name)
    assert closed > asked_for_the_last


def _unread(stage_index, folder, name):
    transport = open_transport(name, stage_index, folder, FORWARD)
    if stage_index == 0:
        transport.send(message(step=0), 1, 20.0)
        transport.send(message(step=1), 1, 20.0)
        with pytest.raises(TransportTimeout) as left:
            transport.close(0.5)
        sign(folder, "closed")
        return str(left.value)
    transport.recv(0, 20.0)
    wait_for(folder, "closed")
    transport.abort()


@pytest.mark.parametrize("name", PROCESSES)
def test_close_says_what_was_not_received(name, tmp_path):
    text, _ = results(_unread, 2, tmp_path, name)
    assert "stage 0 -> stage 1: stage 1 did not take all that was sent within 0.5 s" in text


def _killed(stage_index, folder, name, victim):
    transport = open_transport(name, stage_index, folder, BOTH_WAYS)
    if stage_index == victim:
        transport.send(message(step=5), 1 - victim, 20.0)
        wait_for(folder, "taken")
        os.kill(os.getpid(), signal.SIGKILL)
    assert transport.recv(victim, 20.0)[0].position.step == 5
    sign(folder, "taken")
    with pytest.raises(TransportTimeout) as receiving:
        transport.recv(victim, 20.0)
    with pytest.raises(TransportTimeout) as sending:
        for _ in range(20):
            transport.send(message(torch.zeros(10)), victim, 20.0)
    transport.abort()
    return str(receiving.value), str(sending.value), sending.value.__cause__ is not None


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_peer_is_noticed_on_both_sides(name, victim, tmp_path):
    """Long before the 20 s: the text is that of a peer that is gone, not of a time-out."""
    outcomes = run_stages(_killed, 2, tmp_path, name, victim)
    survivor = outcomes[1 - victim]
    assert survivor.error is None, survivor.error
    receiving, sending, has_cause = survivor.value
    assert f"stage {victim} -> stage {1 - victim}: stage {victim} is gone" in receiving
    assert f"stage {1 - victim} -> stage {victim}: stage {victim} is gone" in sending
    assert has_cause
    assert outcomes[victim].exitcode == -signal.SIGKILL and survivor.exitcode == 0


def _aborting(stage_index, folder, name):
    transport = open_transport(name, stage_index, folder, BOTH_WAYS)
    if stage_index == 0:
        transport.abort()
        transport.abort()
        with pytest.raises(ValueError, match="stage 0 has no open edge .* stage 1") as closed:
            transport.send(message(), 1, 1.0)
        with pytest.raises(ValueError, match="the transport is closed"):
            transport.recv(1, 1.0)
        with pytest.raises(ValueError, match="the transport is closed"):
            transport.fill(1)
        wait_for(folder, "noticed")
        return str(closed.value)
    with pytest.raises(TransportTimeout) as gone:
        transport.recv(0, 15.0)
    sign(folder, "noticed")
    transport.abort()
    return str(gone.value)


@pytest.mark.parametrize("name", PROCESSES)
def test_abort_is_news_to_the_peer_and_lets_the_process_end(name, tmp_path):
    closed, gone = results(_aborting, 2, tmp_path, name)
    assert "the transport is closed" in closed
    assert "stage 0 -> stage 1: stage 0 is gone" in gone


def _hoard(stage_index, folder, name):
    transport = open_transport(name, stage_index, folder, BOTH_WAYS)
    transport.send(message(torch.zeros(100)), 1 - stage_index, 20.0)
    transport.recv(1 - stage_index, 20.0)
    held = transport.queue_bytes()
    transport.close(20.0)
    return held


@pytest.mark.parametrize("name", PROCESSES)
def test_queue_bytes_count_at_least_what_was_in_flight(name, tmp_path):
    assert min(results(_hoard, 2, tmp_path, name)) >= 400
