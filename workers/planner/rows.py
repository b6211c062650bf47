"""Rows of a plan: what each case will do, what bounds it, and what to change next."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from pipeline.config.blocks import names_of
from pipeline.learning.rule import Topology
from pipeline.planning.stage_model import Outcome
from pipeline.records.number_text import format_bytes
from pipeline.schedules.batching import Batching
from pipeline.schedules.replicas import Replicas
from workers.edges import edges_of
from workers.planner.cases import Case
from workers.planner.links import Link
from workers.planner.model import Model

__all__ = ["LOSS", "head_share", "replicated", "row_of"]

LOSS = 0.02
"""Throughput that a link or a queue may cost: what is named is the least with which it costs no more."""
_MOST_DEPTH = 4096
"""Of a queue, beyond which none is looked for."""
_BOUND = 0.95
"""A stage or a link that works so much of the time sets the pace."""
_BACKWARD_SHARE = 2 / 3
"""Of a step, behind which DDP hides its exchange of gradients where the link and not a core does the work."""


def row_of(model: Model, rehearsed_s: float | None = None) -> dict[str, Any]:
    """The row of a case; names are fixed, scripts read them.

    Args:
        model: of the case.
        rehearsed_s: seconds from one batch to the next where it was tried; its pace is that then, and everything else
            the simulation's.
    """
    if model.case.way.is_dealt:
        return _ddp(model)
    case, outcome = model.case, model.simulated()
    simulated_s = outcome.step_s(model.steps // 2)
    step_s = simulated_s if rehearsed_s is None else rehearsed_s
    links = _links(model, step_s)
    bottleneck, advice = _bottleneck(model, outcome, simulated_s, links)
    busy = _working(outcome)
    return {
        **_about(case), "samples_per_s": case.batch_size / step_s, "step_s": step_s,
        "rehearsed": rehearsed_s is not None, "simulated_step_s": simulated_s,
        "first_s": outcome.ends[-1][0], "run_s": _run_s(case, outcome.ends[-1][0], step_s),
        "stage_s": model.stage_seconds(), "busy_s": busy,
        "bubble": max(0.0, 1 - sum(busy) / len(busy) / step_s), "bottleneck": bottleneck, "advice": advice,
        "links": links, "memory": _memory(model), "heads_share": head_share(case),
        **_least(model, simulated_s),
    }  # fmt: skip


def _working(outcome: Outcome) -> list[float]:
    """Seconds of work of each stage in a step, as long as they took."""
    return [seconds / len(ends) for seconds, ends in zip(outcome.working_s, outcome.ends, strict=True)]


def _about(case: Case) -> dict[str, Any]:
    """What the row is about."""
    resolved = case.resolved
    return {
        "schedule": case.way.name, "stages": case.stages, "replicas": list(case.replicas),
        "rule": names_of(resolved.config.rule), "mode": resolved.config.schedule.mode,
        "microbatches": resolved.batching.microbatches, "threads": case.jobs[0].threads,
        "partition": [len(blocks) for blocks in case.partition], "emulated": resolved.config.chaos.emulates,
    }  # fmt: skip


def _run_s(case: Case, first_s: float, step_s: float) -> float:
    """Seconds of the whole run without its evaluations: the filling of the pipeline and all steps.

    Args:
        case: of the run.
        first_s, step_s: of the first step, and of every other one.
    """
    num_train, epochs = case.resolved.batching.num_train, case.resolved.config.train.epochs
    return first_s + max(0.0, epochs * num_train / case.batch_size - 1) * step_s


def _links(model: Model, step_s: float) -> list[dict[str, Any]]:
    """Bytes of a step on the way from each stage to the next and back, and how much of the time the busiest link takes
    that a message over that boundary passes."""
    found, count, lanes = [], model.case.resolved.batching.microbatches, model.lanes()
    topology = model.case.resolved.topology
    top = model.num_stages - 1
    for s in range(top):
        back = 0
        if topology is Topology.NEIGHBOUR:
            back = model.down_bytes(s + 1) * count
        elif topology is Topology.BROADCAST:
            back = model.down_bytes(top) * count * (s + 1)
        up = model.up_bytes(s) * count
        most = max((size for ends, size in lanes.items() if min(ends) <= s < max(ends)), default=0)
        seconds = most / model.link.bytes_per_s
        found.append({"from": s, "to": s + 1, "up_bytes": up, "down_bytes": back, "busy": seconds / step_s})
    return found


def _memory(model: Model) -> list[dict[str, int]]:
    """Bytes of a process of each stage by kind; gradients live as long as a step, and where a stage has replicas they
    are exchanged over queues, too."""
    case, found, replicas = model.case, [], Replicas(model.case.replicas)
    edges = edges_of(case.resolved, case.partition, model.setting.depth, replicas, probe=case.probe)
    for s, job in enumerate(case.jobs):
        profile = model.profile(s)
        found.append({
            "stage": s, "parameter_bytes": profile.parameter_bytes,
            "gradient_bytes": sum(case.resolved.trained_bytes[k] for k in job.blocks),
            "optimizer_bytes": profile.optimizer_bytes, "held_bytes": profile.held_bytes,
            "queue_bytes": max(
                sum(e.depth * e.slot_bytes for e in edges if e.src == process) for process in replicas.group(s)
            ),
        })  # fmt: skip
    return found


def head_share(case: Case) -> float | None:
    """Share of the arithmetic that the rule's own matrices take (decoders, predictors); None where nothing is known.

    Products alone are counted: two for a block's weight, and three for a matrix of the rule, which hands an error on
    into its block. Both are counted at each position of a map or sequence where they are applied; the products of
    attention, which have no weights, are not counted.
    """
    resolved, blocks, heads = case.resolved, 0.0, 0.0
    for shapes, trained, spec in zip(resolved.shapes, resolved.trained_bytes, resolved.specs, strict=True):
        places = shapes.body_shape[:1] if len(shapes.body_shape) == 2 else shapes.body_shape[1:]
        blocks += 2.0 * shapes.num_parameters * math.prod(places)
        heads += 3.0 * max(0, trained // 4 - shapes.num_parameters) * math.prod(spec.task.positions)
    if not any(resolved.trained_bytes):
        return None
    return heads / (blocks + heads)


def _bottleneck(
    model: Model, outcome: Outcome, step_s: float, links: list[dict[str, Any]]
) -> tuple[str, str]:
    """What sets the pace, and what to do about it."""
    case, busy = model.case, _working(outcome)
    slowest = max(range(len(busy)), key=busy.__getitem__)
    link = max(links, key=lambda each: float(each["busy"]), default=None)
    if link is not None and link["busy"] >= _BOUND:
        size = format_bytes(max(link["up_bytes"], link["down_bytes"]))
        return f"link {link['from']}-{link['to']}", (
            f"{size} a step are more than the link takes: a faster link, a cut where blocks are narrower, or fewer "
            "bytes a number"
        )
    if busy[slowest] / step_s >= _BOUND:
        here = max(model.hosts.count(host) for host in model.hosts)
        if model.slots < here and not case.resolved.config.chaos.emulates:
            return "cores", f"{here} stages share {model.setting.cores:.0f} cores a host: fewer stages, or more cores"
        if len(busy) == 1:
            return "stage 0", "more stages, or a faster device"
        share = busy[slowest] / (sum(busy) / len(busy))
        where = f"stage {slowest}"
        if share > 1.1 and len(case.partition[slowest]) == 1:
            return where, f"one block takes {share:.2f} times the mean stage: a replica of it, or cut the block in two"
        if share > 1.1:
            return where, f"it takes {share:.2f} times the mean stage: other cuts, or one stage more"
        return where, "all stages are at work: more stages or faster devices"
    return "waits", _about_waits(model, step_s)


def _about_waits(model: Model, step_s: float) -> str:
    """What to change where nobody works all the time."""
    batching: Batching = model.case.resolved.batching
    if model.step_s(depth=10**6) < (1 - LOSS) * step_s:
        return "messages wait for room: raise transport.depth"
    if model.case.resolved.topology is Topology.LOCAL:
        return "stages wait for messages: raise transport.depth or lower the latency"
    if batching.microbatches > 1:
        return "stages wait for their turn (bubble): more train.microbatches, or a local rule"
    if batching.in_flight == 1 and model.case.way.is_ours:
        return "stages take turns at one batch: raise train.in_flight, or choose a local rule"
    return "stages wait for their turn: more train.microbatches, or a local rule"


def _least(model: Model, step_s: float) -> dict[str, Any]:
    """The least link rate and the least depth with which the link and the queues cost no more than ``LOSS``."""
    if model.num_stages == 1:
        return {"least_link_bit_per_s": None, "least_depth": None}
    free = model.step_s(depth=10**6, bits_per_s=math.inf)
    depth = _least_depth(model, free)
    most = max(model.lanes().values(), default=0)
    if most == 0:
        return {"least_link_bit_per_s": None, "least_depth": depth}
    needed = most / free / (1 + LOSS) / Link(1.0).bytes_per_s
    if model.case.resolved.topology is Topology.LOCAL:
        return {"least_link_bit_per_s": needed, "least_depth": depth}
    rate = _least_such(lambda bits: model.step_s(depth=10**6, bits_per_s=bits) <= free * (1 + LOSS), needed / 64)
    return {"least_link_bit_per_s": rate, "least_depth": depth}


def _least_depth(model: Model, free: float) -> int | None:
    """The least depth with which a step takes no longer than ``free``, but for ``LOSS``, and the deeper ones do not
    either; at least one message beside those that are on their way. None where not even the deepest queue is enough."""
    case = model.case
    queues = min(math.lcm(a, b) for a, b in pairwise(case.replicas))
    on_their_way = model.latency_s * case.resolved.batching.microbatches / queues / free
    below = math.ceil(on_their_way - 1e-9)
    upper = below + 1
    while model.step_s(depth=upper, bits_per_s=math.inf) > free * (1 + LOSS):
        if upper >= _MOST_DEPTH:
            return None
        below, upper = upper, 2 * upper
    while upper - below > 1:
        middle = (below + upper) // 2
        fits = model.step_s(depth=middle, bits_per_s=math.inf) <= free * (1 + LOSS)
        below, upper = (below, middle) if fits else (middle, upper)
    return upper


def _least_such(fits: Callable[[float], bool], lower: float) -> float:
    """The least number above ``lower`` that fits, to one in a hundred; those above it fit as well."""
    upper = lower
    while not fits(upper) and upper < lower * 2**20:
        lower, upper = upper, upper * 2
    while upper > lower * 1.01:
        middle = math.sqrt(lower * upper)
        lower, upper = (lower, middle) if fits(middle) else (middle, upper)
    return upper


def _ddp(model: Model) -> dict[str, Any]:
    """Data parallelism: every process takes its part of the batch, and gradients are averaged in a ring."""
    case, count, question = model.case, model.case.stages, model.setting.question
    own = model.simulated().step_s(model.steps // 2)
    here = -(-count // question.hosts)
    if model.setting.cores < math.inf and not case.resolved.config.chaos.emulates:
        beside = max(0.0, min(here, model.slots) - 1) / (model.slots - 1) if model.slots > 1 else 0.0
        own *= max(1.0, here / model.slots) * (1 + (model.slowdown(0) - 1) * beside)
    num_bytes = sum(each.gradient_bytes for each in case.resolved.exchanged)
    far = question.hosts > 1 or question.link is not None
    exchange = model.exchange_s(count, num_bytes, between_hosts=far)
    hidden = min(exchange * 0.9, own * _BACKWARD_SHARE) if far else 0.0
    step_s = own + exchange - hidden
    bound = "exchange of gradients" if exchange - hidden > own / 2 else "compute"
    advice = "a faster link, or larger batches" if bound != "compute" else "more processes, or faster devices"
    part = model.profile(0)
    return {
        **_about(case), "samples_per_s": case.batch_size / step_s, "step_s": step_s,
        "rehearsed": False, "simulated_step_s": step_s, "first_s": step_s,
        "run_s": _run_s(case, step_s, step_s), "stage_s": [own] * count, "busy_s": [own] * count,
        "bubble": (exchange - hidden) / step_s, "bottleneck": bound, "advice": advice,
        "links": [{"from": s, "to": (s + 1) % count, "up_bytes": 2 * (count - 1) * num_bytes // count, "down_bytes": 0,
                   "busy": exchange / step_s} for s in range(count)],
        "memory": [{"stage": s, "parameter_bytes": part.parameter_bytes, "gradient_bytes": num_bytes,
                    "optimizer_bytes": part.optimizer_bytes, "held_bytes": part.held_bytes, "queue_bytes": 0}
                   for s in range(count)],
        "heads_share": 0.0, "least_link_bit_per_s": None, "least_depth": None,
    }  # fmt: skip


def replicated(model: Model) -> tuple[int, ...] | None:
    """One replica more for the slowest stage; None where that is not alone in being slow."""
    seconds = model.stage_seconds()
    if len(seconds) < 2:
        return None
    slowest = max(range(len(seconds)), key=seconds.__getitem__)
    others = max(s for k, s in enumerate(seconds) if k != slowest)
    if seconds[slowest] < 1.2 * others:
        return None
    return tuple(2 if k == slowest else 1 for k in range(len(seconds)))

