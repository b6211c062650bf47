"""Catalogue of the arms of a preset, each with its job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.arms.job import ArmJob
from pipeline.planning.partition import balanced

__all__ = ["ABOUT", "ArmHost", "Impossible", "costs_job", "jobs", "matmul_job", "selected"]

ABOUT = {
    "onward-N": "the preset's rule (linear decoders, DFA, ...), N stages of one thread; onward-1: all in one process",
    "same-rule-1": "as onward-1, but with a thread for every core: the rule without the pipeline",
    "onward-gpipe": "our own flush schedules over backprop, 2 stages of one thread, 4 micro-batches; also onward-1f1b",
    "onward-pipedream": "backprop on the same 2 stages without a flush: the first one's gradients come a step late",
    "backprop": "one process, a thread for every core",
    "ddp": "DistributedDataParallel, 2 processes of one thread, half of the batch each",
    "torch-gpipe-M": "torch.distributed.pipelining, 2 processes of one thread, M micro-batches; also torch-1f1b-M",
}

FLUSH: tuple[str, ...] = ("gpipe", "1f1b")
PROCESSES = 2
STAGES = (1, 2, 4)


@dataclass(frozen=True)
class ArmHost:
    """Cores and GPUs of the machine, which decide the arms that it can run."""

    cores: int
    num_gpus: int


@dataclass(frozen=True)
class Impossible:
    """An arm that cannot be run here."""

    why: str


def costs_job(template: ArmJob) -> ArmJob:
    """Job that measures the blocks' costs; see :mod:`benchmarks.arms.costs`."""
    return replace(template, module="benchmarks.arms.costs")


def matmul_job(template: ArmJob, host: ArmHost) -> ArmJob:
    """Job that measures peak GEMM throughput, in as many processes as two stages have cores or GPUs."""
    processes = PROCESSES if template.preset.device == "cpu" else min(PROCESSES, host.num_gpus)
    return replace(template, module="benchmarks.arms.matmul", processes=processes)


def jobs(template: ArmJob, costs: Mapping[str, Sequence[float]], host: ArmHost) -> dict[str, ArmJob | Impossible]:
    """Every arm of a preset, by name, in the order of the table.

    The local arms are cut by what the blocks cost under the local rule; ours and torch's schedules of backprop by
    what they cost under backprop, both at the same place.

    Args:
        template: preset, precision, seconds and memory of all arms.
        costs: of the blocks, ``local`` and ``backprop``.
        host: cores for the arms of one process, and GPUs.
    """
    lone_gpu = template.preset.device == "cuda" and host.num_gpus < PROCESSES
    found: dict[str, ArmJob | Impossible] = {
        f"onward-{n}": _stages(template, costs["local"], n) for n in STAGES
    }
    ours = replace(template, module="benchmarks.arms.onward")
    found["same-rule-1"] = replace(ours, threads=host.cores)
    found["backprop"] = replace(template, module="benchmarks.arms.backprop", threads=host.cores)
    found["ddp"] = replace(template, module="benchmarks.arms.ddp", processes=PROCESSES)
    cut = _cut(costs["backprop"], PROCESSES)
    torchs = replace(
        template, module="benchmarks.arms.torch_pipelining", processes=PROCESSES, partition=cut
    )
    for mode in FLUSH:
        for count in template.preset.microbatches:
            found[f"torch-{mode}-{count}"] = replace(torchs, mode=mode, microbatches=count)
    for mode in (*FLUSH, "pipedream"):
        found[f"onward-{mode}"] = replace(ours, mode=mode, partition=cut)
    if lone_gpu:
        why = Impossible("not possible on one GPU: nccl refuses two ranks on one device")
        found = {name: why if name.startswith(("ddp", "torch-")) else arm for name, arm in found.items()}
    return found


def selected(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The arms of ``names`` that ``wanted`` names, each whole or up to a hyphen: torch-gpipe is all of torch-gpipe-M.

    Raises:
        ValueError: no arm has such a name.
    """
    for given in wanted:
        if not any(_is_meant(name, given) for name in names):
            raise ValueError(f"unknown arm (given: {given}, expected: {', '.join(names)}). Correct or remove it.")
    return [name for name in names if not wanted or any(_is_meant(name, given) for given in wanted)]


def _is_meant(name: str, given: str) -> bool:
    return name == given or name.startswith(f"{given}-")


def _stages(template: ArmJob, costs: Sequence[float], count: int) -> ArmJob | Impossible:
    """The local rule on ``count`` stages."""
    if count > len(costs):
        return Impossible(f"{len(costs)} blocks make no {count} stages")
    return replace(template, module="benchmarks.arms.onward", partition=_cut(costs, count))


def _cut(costs: Sequence[float], count: int) -> tuple[int, ...]:
    """Blocks of each stage."""
    return tuple(len(blocks) for blocks in balanced(costs, count))
