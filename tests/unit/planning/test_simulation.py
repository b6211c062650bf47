"""Pipelines whose times can be worked out by hand."""

import math
from dataclasses import replace

import pytest

from pipeline.planning.clock import Clock
from pipeline.planning.simulation import simulate
from pipeline.planning.stage_model import Outcome, Part, Port, Role, StageModel, Wire, walk
from pipeline.schedules.actions import Action, Op, one_f_one_b, stream

WIRE = Wire(depth=4)


def local(num_stages, steps, *, parts=None, wire=WIRE, **kwargs):
    """A local rule: every stage learns behind its forward pass and hears nothing."""
    actions = list(stream([1] * steps, in_flight=1, feedback=False))
    parts = parts or [{Part.BEFORE: 1.0, Part.AFTER: 2.0}] * num_stages
    stages = [
        StageModel(Role(has_below=s > 0, has_above=s < num_stages - 1), actions, parts[s], **kwargs)
        for s in range(num_stages)
    ]
    return stages, {(s, s + 1, Port.PASS): wire for s in range(num_stages - 1)}


def backward(num_stages, order, counts, *, wire=WIRE, back=None, parts=None, **kwargs):
    """Backpropagation: feedback from stage to stage."""
    parts = parts or {Part.BEFORE: 1.0, Part.LEARN: 2.0}
    stages, wires = [], {}
    for s in range(num_stages):
        is_last = s == num_stages - 1
        role = Role(s > 0, not is_last, not is_last, not is_last, None if s == 0 else "forward" if is_last else "learn")
        own = {Part.BEFORE: sum(parts.values())} if is_last else parts
        actions = list(order(counts, stage_index=s, num_stages=num_stages, in_flight=1, feedback=True))
        stages.append(StageModel(role, actions, own, **kwargs))
        if not is_last:
            wires[s, s + 1, Port.PASS] = wire
            wires[s + 1, s, Port.TELL] = back or Wire()
    return stages, wires


def test_one_stage_takes_the_sum_of_its_parts():
    stages, wires = local(1, 5, parts=[{Part.BEFORE: 1.0, Part.AFTER: 2.0, Part.STEP: 0.5}])
    found = simulate(stages, wires)
    assert found.ends == ((3.5, 7.0, 10.5, 14.0, 17.5),) and found.busy_s == (17.5,)
    assert found.step_s() == found.step_s(2) == 3.5


def test_a_balanced_pipeline_runs_at_the_pace_of_one_stage():
    stages, wires = local(4, 20)
    found = simulate(stages, wires)
    # The activation of the first batch is at the last stage after three forward passes.
    assert found.ends[3][0] == 6.0 and found.seconds == 6.0 + 19 * 3.0 and found.step_s(5) == pytest.approx(3.0)


def test_the_slowest_stage_sets_the_pace_and_the_others_wait():
    parts = [{Part.AFTER: 1.0}, {Part.AFTER: 4.0}, {Part.AFTER: 2.0}]
    stages, wires = local(3, 40, parts=parts)
    found = simulate(stages, wires)
    assert found.step_s(20) == pytest.approx(4.0) and found.busy_s == (40.0, 160.0, 80.0)
    assert found.waits_s[0][Port.PASS.value] > 90 and found.waits_s[2][Port.TAKE.value] == pytest.approx(78.0)


def test_a_receiver_that_has_waited_longer_wakes_up_later():
    wire = Wire(depth=4, wakes=((0.0, 0.5), (2.0, 1.5)))
    assert [wire.wake_s(waited) for waited in (0.0, 1.0, 2.0, 9.0)] == [0.0, 1.0, 1.5, 1.5]
    assert Wire().wake_s(3.0) == 0.0
    # The second stage waits for 3 s each time and wakes up in 1.5; the first never waits, and sets the pace.
    stages, wires = local(2, 3, parts=[{Part.BEFORE: 3.0}, {Part.BEFORE: 1.0}], wire=wire)
    found = simulate(stages, wires)
    # The later ones find it waiting for 0.5 and 1.25 s: 0.75 and 1.125 to wake up.
    assert found.ends == ((3.0, 6.0, 9.0), (5.5, 7.75, 11.125))


def test_a_stage_that_has_waited_computes_the_longer():
    parts, chills = [{Part.BEFORE: 3.0}, {Part.BEFORE: 1.0}], ((0.0, 0.0), (2.0, 0.5))
    stages, wires = local(2, 3, parts=parts, chills=chills)
    assert [stages[0].chill_s(waited) for waited in (0.0, 1.0, 2.0, 9.0)] == [0.0, 0.25, 0.5, 0.5]
    assert StageModel(Role(), (), {}).chill_s(3.0) == 0.0
    found = simulate(stages, wires)
    # The second stage waits for 3 s, then for 1.5 and 1.625 s; the first never does.
    assert found.ends == ((3.0, 6.0, 9.0), (4.5, 7.375, 10.40625)) and found.busy_s == (9.0, 3 + 0.5 + 0.375 + 0.40625)


def test_a_stage_that_has_waited_for_room_computes_the_longer():
    parts = [{Part.BEFORE: 1.0}, {Part.BEFORE: 3.0}]
    stages, wires = local(2, 4, parts=parts, wire=Wire(depth=1), chills=((0.0, 0.0), (2.0, 0.5)))
    warm, _ = local(2, 4, parts=parts, wire=Wire(depth=1))
    assert simulate(stages, wires).busy_s[0] > simulate(warm, wires).busy_s[0] == 4.0


def test_to_rouse_the_other_end_is_work():
    parts, wire = [{Part.BEFORE: 3.0}, {Part.BEFORE: 1.0}], Wire(depth=1, rouse_s=0.25)
    stages, wires = local(2, 3, parts=parts, wire=wire)
    assert simulate(stages, wires).ends == ((3.25, 6.5, 9.75), (4.0, 7.25, 10.5))  # the second waits for each
    stages, wires = local(2, 4, parts=[{Part.BEFORE: 1.0}, {Part.BEFORE: 3.0}], wire=wire)
    # The first is roused by the second, but for the first message, which itself rouses the second.
    assert simulate(stages, wires).ends == ((1.25, 2.25, 4.0, 7.25), (4.0, 7.25, 10.5, 13.5))


@pytest.mark.parametrize(("num_stages", "count"), [(2, 4), (4, 4), (4, 8), (3, 1)])
def test_gpipe_has_the_bubble_of_its_paper(num_stages, count):
    """Huang et al. 2019: (S - 1) / (M + S - 1) of the time no work is done, where all take the same."""
    stages, wires = backward(num_stages, stream, [count] * 3)
    stages = [
        StageModel(s.role, s.actions, s.parts if s.role.has_above else {Part.BEFORE: 1.0, Part.LEARN: 2.0})
        for s in stages
    ]
    # All forward, then all back, also at the top: the last stage learns in LEARN as the others do.
    top = stages[-1]
    stages[-1] = StageModel(Role(True, False, True, False, "learn"), top.actions, {Part.BEFORE: 1.0, Part.LEARN: 2.0})
    found = simulate(stages, wires)
    assert found.step_s() == pytest.approx(3.0 * (count + num_stages - 1))
    bubble = 1 - 3.0 * count / found.step_s()
    assert bubble == pytest.approx((num_stages - 1) / (count + num_stages - 1))


@pytest.mark.parametrize("num_stages", [2, 3, 4])
def test_1f1b_takes_as_long_as_gpipe_and_holds_less(num_stages):
    found = simulate(*backward(num_stages, one_f_one_b, [8] * 3))
    assert found.step_s() == pytest.approx(3.0 * (8 + num_stages - 1))


def test_with_one_batch_in_flight_stages_take_turns():
    found = simulate(*backward(3, stream, [1] * 10))
    assert found.step_s() == pytest.approx(9.0)


def test_batches_in_flight_hide_the_last_stage():
    """Every stage learns from batch n behind its forward pass of n + 2: two of them take turns, the last runs ahead."""
    actions = list(stream([1] * 60, in_flight=3, feedback=True))
    stages, wires = backward(3, stream, [1] * 60)
    stages = [StageModel(s.role, actions, s.parts) for s in stages]
    assert simulate(stages, wires).step_s(20) == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("latency", "depth", "step"),
    [(6.0, 4, 3.0), (6.0, 2, 3.0), (6.0, 1, 6.0), (12.0, 2, 6.0), (24.0, 3, 8.0)],
)
def test_latency_is_hidden_by_messages_on_their_way(latency, depth, step):
    """At most ``depth`` messages in ``latency`` seconds; a depth of 1 + latency / step always does."""
    stages, wires = local(2, 60, wire=Wire(depth=depth, latency_s=latency))
    assert simulate(stages, wires).step_s(20) == pytest.approx(step, rel=0.02)


def test_a_slow_link_sets_the_pace():
    stages, wires = local(2, 40, wire=Wire(num_bytes=100, rate=20.0, depth=4))
    found = simulate(stages, wires)
    assert found.step_s(20) == pytest.approx(5.0) and found.waits_s[0][Port.PASS.value] > 0


def test_wires_of_one_lane_share_its_rate():
    shared = Wire(num_bytes=100, rate=50.0, depth=4, lane="cable")
    stages, wires = local(3, 60, wire=shared)
    assert simulate(stages, wires).step_s(10) == pytest.approx(4.0, rel=0.02)
    assert simulate(*local(3, 60, wire=Wire(num_bytes=100, rate=50.0, depth=4))).step_s(30) == pytest.approx(3.0)


def test_copying_messages_is_work_of_both_ends():
    stages, wires = local(2, 40, wire=Wire(depth=4, send_s=0.5, recv_s=0.25))
    found = simulate(stages, wires)
    assert found.step_s(20) == pytest.approx(3.5) and found.busy_s == (40 * 3.5, 40 * 3.25)


def test_more_stages_than_cores_share_them():
    stages, wires = local(4, 40)
    assert simulate(stages, wires, cores=2).step_s(20) == pytest.approx(6.0, rel=0.02)
    assert simulate(stages, wires, cores=1).step_s(20) == pytest.approx(12.0, rel=0.02)
    found = simulate(stages, wires, cores=1)
    assert sum(found.busy_s) == pytest.approx(4 * 40 * 3.0) and min(found.working_s) > 2.5 * 40 * 3.0


def test_each_host_has_cores_of_its_own():
    stages, wires = local(4, 40)
    stages = [replace(stage, host=s // 2) for s, stage in enumerate(stages)]
    assert simulate(stages, wires, cores=2).step_s(20) == pytest.approx(3.0)
    assert simulate(stages, wires, cores=1).step_s(20) == pytest.approx(6.0, rel=0.02)


def test_stages_that_sleep_need_no_core():
    stages, wires = local(8, 40, sleeps=True)
    assert simulate(stages, wires, cores=1).step_s(20) == pytest.approx(3.0)


def test_work_is_slower_while_all_cores_work():
    stages, wires = local(2, 40, slowdown=1.5)
    assert simulate(stages, wires, cores=2).step_s(20) == pytest.approx(4.5, rel=0.02)
    assert simulate(*local(1, 10, slowdown=1.5), cores=2).step_s() == pytest.approx(3.0)


def test_two_replicas_of_the_slowest_stage_double_the_pace():
    counts = [2] * 30
    actions = list(stream(counts, in_flight=1, feedback=False))

    def stages(replicas):
        costs = [1.0, 2.0, 1.0]
        return [
            StageModel(Role(s > 0, s < 2), actions, {Part.AFTER: costs[s]}, replicas=replicas if s == 1 else 1)
            for s in range(3)
        ]

    wires = {(s, s + 1, Port.PASS): Wire(depth=8) for s in range(2)}
    assert simulate(stages(1), wires).step_s(10) == pytest.approx(4.0)
    assert simulate(stages(2), wires).step_s(10) == pytest.approx(2.0)


def test_replicas_wait_for_each_other_and_for_their_gradients():
    actions = list(stream([2] * 10, in_flight=1, feedback=False))
    stage = StageModel(Role(), actions, {Part.AFTER: 1.0}, replicas=2, sync_s=0.5)
    found = simulate([stage], {})
    assert found.ends[0] == tuple(pytest.approx(1.5 * (n + 1)) for n in range(10))
    assert found.busy_s == (pytest.approx(15.0),) and found.waits_s[0]["meet"] == 0.0


def test_what_replicas_exchange_may_be_late_and_takes_no_core_meanwhile():
    actions = list(stream([2] * 10, in_flight=1, feedback=False))
    stage = StageModel(Role(), actions, {Part.AFTER: 1.0}, replicas=2, sync_s=0.5, sync_late_s=2.0)
    found = simulate([stage], {})
    assert found.step_s(2) == pytest.approx(3.5) and found.busy_s == (pytest.approx(15.0),)
    assert found.waits_s[0]["meet"] == pytest.approx(20.0)


def test_replicas_that_share_a_core_exchange_gradients_on_it():
    actions = list(stream([2] * 10, in_flight=1, feedback=False))
    stage = StageModel(Role(), actions, {Part.AFTER: 1.0, Part.STEP: 0.25}, replicas=2, sync_s=0.5)
    assert simulate([stage], {}, cores=1).step_s(2) == pytest.approx(3.5)
    assert simulate([stage], {}, cores=2).step_s(2) == pytest.approx(1.75)


def test_feedback_to_all_comes_straight_from_the_last_stage():
    actions = list(stream([1] * 10, in_flight=1, feedback=True))
    stages = [
        StageModel(Role(s > 0, s < 2, s < 2, s < 2, "forward" if s == 2 else None), actions,
                   {Part.BEFORE: 1.0, Part.LEARN: 2.0 if s < 2 else 0.0})
        for s in range(3)
    ]  # fmt: skip
    wires = {(0, 1, Port.PASS): WIRE, (1, 2, Port.PASS): WIRE, (2, 0, Port.TELL): Wire(), (2, 1, Port.TELL): Wire()}
    assert simulate(stages, wires).step_s(2) == pytest.approx(5.0)  # 3 forward, and both learn at the same time


def test_a_circle_of_waits_is_found():
    stages, wires = local(2, 5)
    actions = list(stream([1], in_flight=1, feedback=True))
    stages[0] = StageModel(Role(has_above=True, waits=True, hears=True), actions, {})
    wires[1, 0, Port.TELL] = Wire()
    with pytest.raises(ValueError, match=r"stages wait for each other for ever \(given: stages \[0, 1\] of 2\)"):
        simulate(stages, wires)


def test_an_action_is_walked_as_the_program_does():
    def names(op, role):
        return [item.value for item in walk(Action(op, 0), role)]

    middle = Role(True, True, True, True, "learn")
    assert names(Op.FORWARD, middle) == ["take", "before", "pass", "after"]
    assert names(Op.LEARN, middle) == ["hear", "learn", "tell"]
    assert names(Op.STEP, middle) == ["meet", "step", "done"]
    assert names(Op.LEARN, Role(True, True)) == []
    assert names(Op.FORWARD, Role(True, False, tells="forward")) == ["take", "before", "after", "tell"]


def test_the_mean_step_of_a_short_run():
    assert Outcome(((2.0,),), (1.0,), (1.0,), ({},)).step_s(9) == 2.0


def test_a_clock_without_cores_to_share():
    clock = Clock(math.inf, [1.0, 1.0])
    clock.work(0, 2.0)
    clock.work(1, 1.0)
    assert [clock.next(), clock.now, clock.next(), clock.now, clock.next()] == [1, 1.0, 0, 2.0, None]
