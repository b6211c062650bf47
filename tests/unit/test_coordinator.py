from multiprocessing import Pipe

import pytest
from tests.support.run_doubles import block_row, epoch_body, result_body, run_state_of

from pipeline.errors import ConfigError, WorkerFailed
from pipeline.schedules.replicas import Replicas
from pipeline.schedules.schedule import Parallel, Sequential
from workers import coordinator as module
from workers import messages
from workers.coordinator import Coordinator
from workers.hosts import StageHosts


class Run:
    """A coordinator and the stages' ends of its lines. What stages say is in the lines before it looks."""

    def __init__(self, schedule, num_stages=2, num_blocks=2, timeout_s=60.0, watched=False, start_timeout_s=60.0,
                 hosts=None, replicas=None):
        self.run_state, self.notes = run_state_of(schedule, num_stages, num_blocks)
        pairs = [Pipe() for _ in range(num_stages)]
        self.stages = [stage for _, stage in pairs]
        # In place of a process: readable when the test closes its other end.
        self.lives = [Pipe(duplex=False) for _ in range(num_stages)] if watched else []
        self._links = [link for link, _ in pairs]
        self.coordinator = Coordinator(self.run_state, self._links, [r.fileno() for r, _ in self.lives], timeout_s,
                                       start_timeout_s=start_timeout_s, hosts=hosts, replicas=replicas)  # fmt: skip

    def say(self, stage, *said):
        for message in said:
            messages.send(self.stages[stage], *message)

    def die(self, stage):
        self.lives[stage][1].close()

    def heard(self, stage):
        """Everything that a stage was told."""
        found = []
        while self.stages[stage].poll():
            found.append(messages.receive(self.stages[stage]))
        return [message for message in found if message[0] != "beat"]

    def close(self):
        for end in (*self.stages, *self._links, *(end for life in self.lives for end in life)):
            end.close()


@pytest.fixture
def start(monkeypatch):
    monkeypatch.setattr(module, "SECONDARY_GRACE_S", 0.05)
    runs = []

    def start(*args, **kwargs):
        runs.append(Run(*args, **kwargs))
        return runs[-1]

    yield start
    for run in runs:
        run.close()


def between_waits(monkeypatch, *deeds):
    """Does one thing before every wait but the first: what happens while the coordinator is busy."""
    real, left = Coordinator._ready, [None, *deeds]

    def ready(self, timeout):
        if left and (deed := left.pop(0)) is not None:
            deed()
        return real(self, min(timeout, 0.01))  # what is to come is there by now

    monkeypatch.setattr(Coordinator, "_ready", ready)


def failure(stage, kind, text):
    return ("failed", {"stage": stage, "kind": kind, "text": text})


TIMEOUT_0 = failure(0, "TransportTimeout", "stage 1 is gone")
ERROR_1 = failure(1, "ValueError", "Traceback: boom")
READY = ("ready", 0)


def done(stage, epochs=2):
    """Everything that a stage of one block says in an orderly run."""
    reports = [("epoch", epoch_body(e, stage, block_row(stage, loss=1.0 / (e + 1)))) for e in range(epochs)]
    progress = ("progress", {"stage": stage, "step": 3, "checked": 3})
    return [("ready", stage), progress, *reports, ("result", result_body(stage))]


def test_parallel_plans_are_published_ahead(start):
    run = start(Parallel(2, epochs=2))
    run.say(0, *done(0))
    run.say(1, *done(1))
    run.coordinator.run()
    plans = [("plan", (epoch, Parallel(2, 2).plan(epoch, ()))) for epoch in range(3)]
    assert run.heard(0) == run.heard(1) == [*plans, ("bye", None)]
    assert len(run.run_state.history) == 2 and run.run_state.is_complete
    assert [n for n in run.notes if n[0] in ("started", "progress")].count(("started",)) == 1
    assert run.notes.count(("progress", 3)) == 2


def test_sequential_plans_come_one_by_one_and_go_by_the_reports(start, monkeypatch):
    schedule = Sequential(2, epochs=3, patience=1)
    run, heard = start(schedule), []

    def stages_report(epoch, losses):
        def deed():
            heard.append(run.heard(1))
            run.say(0, ("epoch", epoch_body(epoch, 0, block_row(0, losses[0]))))
            run.say(1, ("epoch", epoch_body(epoch, 1, block_row(1, losses[1]))))

        return deed

    def stages_end():
        heard.append(run.heard(1))
        for stage in range(2):
            run.say(stage, ("result", result_body(stage)))

    # Block 0 has converged after its second epoch; block 1 has not, and takes all three.
    losses = [(1.0, None), (1.0, None), (None, 4.0), (None, 2.0), (None, 1.0)]
    # Both reports lie in the lines when the next wait begins, so every epoch takes one.
    run.say(0, READY)
    run.say(1, ("ready", 1))
    between_waits(monkeypatch, lambda: None, *(stages_report(e, pair) for e, pair in enumerate(losses)), stages_end)
    run.coordinator.run()
    histories = [run.run_state.history[:e] for e in range(6)]
    expected = [[("plan", (e, schedule.plan(e, histories[e])))] for e in range(6)]
    assert heard == expected
    assert expected[2][0][1][1].modes != expected[1][0][1][1].modes and expected[5] == [("plan", (5, None))]
    assert run.heard(1) == [("bye", None)]


def test_the_clock_starts_with_the_last_stage(start):
    run = start(Parallel(2, epochs=2))
    run.say(0, *done(0))
    run.say(1, ("ready", 1), ERROR_1)
    with pytest.raises(WorkerFailed):
        run.coordinator.run()
    assert run.notes.count(("started",)) == 1
    other = start(Parallel(2, epochs=2))
    other.say(0, READY, READY)
    other.say(1, ERROR_1)
    with pytest.raises(WorkerFailed):
        other.coordinator.run()
    assert ("started",) not in other.notes


@pytest.mark.parametrize(
    ("said", "closed", "text"),
    [
        pytest.param([[], [ERROR_1]], [], r"\[stage 1/2\] Traceback: boom", id="raised"),
        pytest.param([[TIMEOUT_0], [ERROR_1]], [], r"\[stage 1/2\] Traceback: boom", id="raised, a neighbour waited"),
        pytest.param([[], [ERROR_1]], [1], r"\[stage 1/2\] Traceback: boom", id="raised and closed"),
        pytest.param([[], []], [1], r"\[stage 1/2\] its process died without a word", id="closed"),
        pytest.param([[READY], [("ready", 1)]], [0], r"\[stage 0/2\] its process died", id="closed after a start"),
        pytest.param([[TIMEOUT_0], []], [1], r"\[stage 1/2\] its process died", id="closed, a neighbour waited"),
        pytest.param([[TIMEOUT_0], []], [], r"\[stage 0/2\] stage 1 is gone", id="only a neighbour that waited"),
        pytest.param([[], [ERROR_1]], [0], r"\[stage 1/2\] Traceback: boom", id="one closed, one says why"),
        pytest.param([done(0), [ERROR_1]], [0], r"\[stage 1/2\] Traceback: boom", id="an orderly end is no failure"),
    ],
)
def test_which_failure_is_told(start, said, closed, text):
    run = start(Parallel(2, epochs=2))
    for stage, words in enumerate(said):
        run.say(stage, *words)
    for stage in closed:
        run.stages[stage].close()
    with pytest.raises(WorkerFailed, match=text) as caught:
        run.coordinator.run()
    assert caught.value.num_stages == 2


@pytest.mark.parametrize("deed", ["says", "closes"])
def test_the_cause_may_be_heard_after_its_consequence(start, monkeypatch, deed):
    monkeypatch.setattr(module, "SECONDARY_GRACE_S", 20.0)
    run = start(Parallel(2, epochs=2))
    run.say(0, TIMEOUT_0)
    between_waits(monkeypatch, lambda: run.say(1, ERROR_1) if deed == "says" else run.stages[1].close())
    with pytest.raises(WorkerFailed, match=r"\[stage 1/2\] (Traceback: boom|its process died)"):
        run.coordinator.run()


def test_a_line_may_close_after_the_result(start, monkeypatch):
    run = start(Parallel(2, epochs=2))
    run.say(0, *done(0))
    run.stages[0].close()
    between_waits(monkeypatch, *[lambda: None] * 8, lambda: run.say(1, *done(1)))
    run.coordinator.run()
    assert run.run_state.is_complete
    assert run.heard(1)[-1] == ("bye", None)


def test_the_end_of_a_process_is_noticed_while_its_line_is_open(start):
    run = start(Parallel(2, epochs=2), watched=True)
    run.die(1)
    with pytest.raises(WorkerFailed, match=r"\[stage 1/2\] its process died without a word"):
        run.coordinator.run()


def test_last_words_count_even_when_the_process_has_ended(start):
    run = start(Parallel(2, epochs=2), watched=True)
    run.say(0, *done(0))
    run.say(1, *done(1))
    run.die(0)
    run.die(1)
    run.coordinator.run()
    assert run.run_state.is_complete
    failed = start(Parallel(2, epochs=2), watched=True)
    failed.say(1, ("ready", 1), ERROR_1)
    failed.die(1)
    with pytest.raises(WorkerFailed, match=r"\[stage 1/2\] Traceback: boom"):
        failed.coordinator.run()


def test_a_process_that_ends_after_its_result_is_no_failure(start, monkeypatch):
    run = start(Parallel(2, epochs=2), watched=True)
    run.say(0, *done(0))
    between_waits(monkeypatch, *[lambda: None] * 8, lambda: run.die(0), lambda: run.say(1, *done(1)))
    run.coordinator.run()
    assert run.run_state.is_complete


def test_a_stage_that_hangs_is_named_while_it_beats(start, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.0)
    run = start(Parallel(2, epochs=2), timeout_s=1.0)
    pulse = {"activity": "learn", "seconds": 40.0, "epoch": 3, "step": 417, "evaluates": False}
    run.say(0, READY, ("beat", {**pulse, "activity": "wait_recv"}))
    run.say(1, ("ready", 1), ("beat", pulse))
    text = (
        r"\[stage 1/2\] it has been in learn of step 417 for 40 s\. \(run\.timeout_s: 1\.\) "
        r"Raise it if one batch of one stage takes longer\."
    )
    with pytest.raises(WorkerFailed, match=text):
        run.coordinator.run()


def test_the_stage_that_others_waited_for_is_named(start):
    run = start(Parallel(2, epochs=2), timeout_s=60.0)
    pulse = {"activity": "forward", "seconds": 59.0, "epoch": 0, "step": 2, "evaluates": False}
    run.say(0, READY, TIMEOUT_0)
    run.say(1, ("ready", 1), ("beat", pulse))
    text = r"\[stage 1/2\] it has been in forward of step 2 for 59 s, and others have waited for it\."
    with pytest.raises(WorkerFailed, match=text):
        run.coordinator.run()


def test_ranks_that_were_told_to_end_are_an_interrupt(start):
    run = start(Parallel(2, epochs=2))
    run.say(0, READY, TIMEOUT_0)
    run.say(1, ("ready", 1), failure(1, "interrupted", "it was told to end"))
    with pytest.raises(SystemExit) as end:
        run.coordinator.run()
    assert end.value.code == 143


def test_a_death_is_the_cause_of_what_torchrun_tells_the_others(start):
    run = start(Parallel(3, epochs=2), num_stages=3, num_blocks=3)
    run.say(0, failure(0, "interrupted", "it was told to end"))
    run.stages[2].close()
    with pytest.raises(WorkerFailed, match=r"\[stage 2/3\] its process died"):
        run.coordinator.run()


def test_what_is_no_message_is_a_failure(start):
    run = start(Parallel(2, epochs=2))
    run.stages[1].send_bytes(b"\x80\x04N.")
    with pytest.raises(WorkerFailed, match=r"\[stage 1/2\] a message cannot be read"):
        run.coordinator.run()


def test_the_coordinator_beats(start, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    run = start(Parallel(2, epochs=2))
    run.say(0, *done(0))
    run.say(1, *done(1))
    run.coordinator.run()
    assert ("beat", None) in [messages.receive(run.stages[0]) for _ in range(4)]


def test_what_only_the_data_shows_is_still_the_users_mistake(start):
    run = start(Parallel(2, epochs=2))
    run.say(1, ("failed", {"stage": 1, "kind": "ConfigError", "message": "cut off", "text": "Traceback"}))
    with pytest.raises(ConfigError, match="^cut off$"):
        run.coordinator.run()


def test_no_plan_before_every_stage_is_ready(start, monkeypatch):
    run = start(Parallel(2, epochs=2))
    run.say(0, READY)
    heard = []
    between_waits(monkeypatch, lambda: heard.append(run.heard(0)), lambda: run.say(1, *done(1)),
                  lambda: run.say(0, *done(0)[1:]))  # fmt: skip
    run.coordinator.run()
    assert heard == [[]] and len(run.heard(0)) == 4


def test_a_replica_is_named(start):
    run = start(Parallel(2, epochs=2), num_stages=3, replicas=Replicas((1, 2)))
    run.stages[2].close()
    with pytest.raises(WorkerFailed, match=r"^\[stage 1/2, replica 1/2\] its process died without a word$") as caught:
        run.coordinator.run()
    assert (caught.value.stage_index, caught.value.num_stages) == (1, 2)


def test_the_numbers_of_an_edge_are_explained_where_stages_have_replicas(start):
    run = start(Parallel(2, epochs=2), num_stages=3, replicas=Replicas((1, 2)))
    text = "stage 0 -> stage 2: nothing came within 9 s."
    run.say(2, ("failed", {"stage": 2, "kind": "TransportTimeout", "message": text, "text": text}))
    with pytest.raises(WorkerFailed) as caught:
        run.coordinator.run()
    assert str(caught.value) == (
        f"[stage 1/2, replica 1/2] {text}\nA number of a stage at an edge is that of a process: 0 is stage 0/2; "
        "1 is stage 1/2, replica 0/2; 2 is stage 1/2, replica 1/2."
    )


HOSTS = StageHosts((0, 1, 1), ("node0", "node1"))


def lost(run, *stages):
    """Their lines end, and what the coordinator says of it."""
    for stage in stages:
        run.stages[stage].close()
    with pytest.raises(WorkerFailed) as failed:
        run.coordinator.run()
    assert failed.value.is_lost
    return str(failed.value)


@pytest.mark.parametrize(
    ("dead", "text"),
    [
        ((1, 2), "[stage 1/3] host node1 (stages 1, 2): it is gone: its processes died, or it or the network between"),
        ((2,), "[stage 2/3] host node1 (stages 1, 2): its process died without a word"),
    ],
)
def test_a_host_that_is_gone_is_named_with_its_stages(start, dead, text):
    run = start(Parallel(3, epochs=2), num_stages=3, num_blocks=3, hosts=HOSTS)
    run.say(0, READY)
    assert lost(run, *dead).startswith(text)


@pytest.mark.parametrize(
    ("dead", "text"),
    [
        ((2, 3), "[stage 1/3, replica 1/2] host node1 (stage 1/3, replica 1/2; stage 2/3): it is gone: its processes"),
        ((3,), "[stage 2/3] host node1 (stage 1/3, replica 1/2; stage 2/3): its process died without a word"),
    ],
)
def test_a_host_of_replicas_is_named_with_their_stages(start, dead, text):
    run = start(
        Parallel(3, epochs=2), num_stages=4, num_blocks=3, hosts=StageHosts((0, 0, 1, 1), ("node0", "node1")),
        replicas=Replicas((1, 2, 1)),
    )  # fmt: skip
    assert lost(run, *dead).startswith(text)


def test_the_last_line_of_a_host_may_end_a_little_later(start, monkeypatch):
    run = start(Parallel(3, epochs=2), num_stages=3, num_blocks=3, hosts=HOSTS)
    monkeypatch.setattr(module, "SECONDARY_GRACE_S", 20.0)
    between_waits(monkeypatch, lambda: run.stages[2].close())
    assert "host node1 (stages 1, 2): it is gone" in lost(run, 1)


def test_a_stage_that_raises_on_another_host_has_its_traceback(start):
    run = start(Parallel(3, epochs=2), num_stages=3, num_blocks=3, hosts=HOSTS)
    run.say(1, ERROR_1)
    run.stages[2].close()
    with pytest.raises(WorkerFailed, match=r"^\[stage 1/3\] Traceback: boom$"):
        run.coordinator.run()
