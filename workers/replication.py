"""How many processes each stage gets: as the config says, or under ``auto`` where its blocks take longest."""

from collections.abc import Sequence

from pipeline.errors import ConfigError
from pipeline.resolve import RunSpec

__all__ = ["asked_for", "fastest", "most_balanced", "stages_for"]


def asked_for(resolved: RunSpec, num_stages: int) -> tuple[int, ...] | None:
    """Replicas of each stage; None under ``auto``.

    Raises:
        ConfigError: the list is of another number of stages.
    """
    wanted = resolved.config.run.replicas
    if wanted == "auto":
        return None
    if not isinstance(wanted, (list, tuple)):
        return (int(wanted),) * num_stages
    if len(wanted) != num_stages:
        raise ConfigError(
            f"run.replicas lists {len(wanted)} stages and {num_stages} are to run (run.replicas: {list(wanted)}). "
            "Change one of them."
        )
    return tuple(wanted)


def stages_for(resolved: RunSpec, num_ranks: int) -> int:
    """Stages that torchrun's ranks make, with their replicas.

    Raises:
        ConfigError: the replicas of the stages are not as many as the ranks, or lists of another number of stages; or
            there are more stages than blocks.
    """
    replicas, stages, num_blocks = resolved.config.run.replicas, resolved.config.run.stages, resolved.num_blocks
    if stages != "auto":
        num_stages = num_blocks if stages == "blocks" else int(stages)
    elif isinstance(replicas, (list, tuple)):
        num_stages = len(replicas)
    else:
        num_stages = min(num_blocks, num_ranks) if replicas == "auto" else num_ranks // replicas or 1
    if num_stages > num_blocks:
        raise ConfigError(
            f"cannot split {num_blocks} blocks into {num_stages} stages (blocks: {num_blocks}, stages: {num_stages}). "
            f"Lower --stages to at most {num_blocks}."
        )
    counts = asked_for(resolved, num_stages)
    if counts is None and num_stages > num_ranks:
        raise ConfigError(
            f"torchrun gives one process to each rank (run.replicas: auto, run.stages: {stages}: at least {num_stages} "
            f"processes, ranks: {num_ranks}). Start {num_stages} ranks, or lower --stages to at most {num_ranks}."
        )
    if counts is not None and sum(counts) != num_ranks:
        raise ConfigError(
            f"torchrun gives one process to each rank (run.replicas: {replicas}, run.stages: {stages}: "
            f"{sum(counts)} processes, ranks: {num_ranks}). Start {sum(counts)} ranks, or change the replicas."
        )
    return num_stages


def fastest(
    costs: Sequence[float], layouts: Sequence[Sequence[range]], num_processes: int, microbatches: int, use_all: bool
) -> tuple[int, ...]:
    """Replicas for the stages of that of several layouts whose slowest stage takes least, then for the fewest
    processes. Where there is a choice, only a stage of one block has replicas: any other is better cut, for replicas
    exchange gradients and stages do not.

    Args:
        costs: seconds of a step of each block in one process.
        layouts: the blocks of each stage.
        num_processes, microbatches: see :func:`most_balanced`.
        use_all: no process may be left over; they are torchrun's ranks.

    Raises:
        ConfigError: some are left over in every layout.
    """
    found = []
    for layout in layouts:
        stages = [sum(costs[k] for k in blocks) for blocks in layout]
        whole = [len(layouts) == 1 or len(blocks) == 1 for blocks in layout]
        counts = most_balanced(stages, num_processes, microbatches, whole)
        found.append((max(s / n for s, n in zip(stages, counts, strict=True)), sum(counts), counts))
    fitting = [some for some in found if some[1] == num_processes or not use_all]
    if not fitting:
        _, used, counts = min(found)
        raise ConfigError(
            f"torchrun's ranks cannot all be used (run.replicas: auto, ranks: {num_processes}, most balanced: "
            f"{list(counts)}, with {microbatches} micro-batches to deal). Start {used} ranks, or list the replicas."
        )
    return min(fitting)[2]


def most_balanced(
    costs: Sequence[float], num_processes: int, microbatches: int, may: Sequence[bool]
) -> tuple[int, ...]:
    """Replicas for the stages that take longest, as long as processes are left.

    Args:
        costs: seconds of a step of each stage in one process.
        num_processes: at most so many in all, and at least one for each stage.
        microbatches: of a step; the replicas of a stage divide them.
        may: which stages may have replicas.
    """
    counts = [1] * len(costs)
    while True:
        slowest = max(range(len(costs)), key=lambda s: costs[s] / counts[s])
        more = next((n for n in range(counts[slowest] + 1, microbatches + 1) if microbatches % n == 0), None)
        if not may[slowest] or more is None or sum(counts) - counts[slowest] + more > num_processes:
            return tuple(counts)
        counts[slowest] = more
