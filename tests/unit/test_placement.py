import re
import sys
from types import SimpleNamespace

import pytest
import torch

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.learning.rule import Topology
from pipeline.schedules.modes import find_mode
from workers import placement, transports
from workers.host import resources
from workers.placement import Host, needs_processes, place, this_host

ALONE = Host(cores=4, num_gpus=0)
GPUS = Host(cores=4, num_gpus=2)


@pytest.fixture(autouse=True)
def costs(monkeypatch):
    """Every block's seconds as measured: the first is the dearest."""
    asked = []

    def measured(resolved, threads, device):
        asked.append((threads, str(device)))
        return [4.0] + [1.0] * (resolved.num_blocks - 1)

    monkeypatch.setattr(placement, "block_costs", measured)
    # Hosts of these tests have GPUs that this one has not; test_run_memory.py has the check.
    monkeypatch.setattr(placement, "check_memory", lambda *_: None)
    return asked


def resolved(num_blocks=6, **sections):
    """A run, as far as placing it needs one; the parameters of a block grow towards the last."""
    shapes = [SimpleNamespace(num_parameters=n + 1) for n in range(num_blocks)]
    config = Config.from_dict(sections)
    return SimpleNamespace(config=config, num_blocks=num_blocks, shapes=shapes, topology=Topology.LOCAL,
                           mode=find_mode(config.schedule.mode))  # fmt: skip


def ranks(num_ranks, ranks_here, num_gpus=0, cores=4):
    return Host(cores, num_gpus, num_ranks, ranks_here)


def told(*host_of, num_gpus=0, local_ranks=(), gpus=()):
    """Hosts as the ranks have told them, whatever torchrun's number for this one is; ``gpus`` as ``"01 01 2"``."""
    seen = tuple(map(tuple, gpus.split(" "))) if gpus else ()
    return Host(4, num_gpus, len(host_of), 1, host_of, local_ranks, seen)


def sizes(placed):
    return [len(blocks) for blocks in placed.partition]


@pytest.mark.parametrize(
    ("host", "run", "num_stages"),
    [
        (ALONE, {}, 4),  # cores
        (Host(32, 0), {}, 6),  # at most the blocks
        (GPUS, {}, 2),  # GPUs
        (GPUS, {"device": "cpu"}, 4),
        (ALONE, {"stages": 2}, 2),
        (ALONE, {"stages": 5}, 5),
        (ALONE, {"stages": "blocks"}, 6),
        (ALONE, {"partition": [1, 2, 3]}, 3),
        (ranks(2, 2), {}, 2),
        (ranks(3, 3), {}, 3),
        (ranks(3, 3), {"stages": 3}, 3),
        (ranks(6, 2), {"stages": "blocks"}, 6),
    ],
)
def test_how_many_stages(host, run, num_stages):
    placed = place(resolved(run=run), host)
    assert placed.num_stages == num_stages == len(placed.devices)
    assert [k for blocks in placed.partition for k in blocks] == list(range(6))


@pytest.mark.parametrize("run", [{}, {"stages": 2}, {"stages": "blocks"}, {"partition": [3, 3]}], ids=str)
def test_backprop_is_one_stage_with_all_cores_whatever_the_pipeline_has(run):
    placed = place(resolved(schedule={"mode": "backprop"}, run=run), ALONE)
    assert (sizes(placed), placed.threads) == ([6], 4)


@pytest.mark.parametrize(
    ("host", "run", "devices"),
    [
        (ALONE, {"stages": 2}, ["cpu", "cpu"]),
        (GPUS, {"stages": 2}, ["cuda:0", "cuda:1"]),
        (GPUS, {"stages": 3}, ["cuda:0", "cuda:1", "cuda:0"]),
        (GPUS, {"stages": 2, "device": "cpu"}, ["cpu", "cpu"]),
        (ranks(4, 2, num_gpus=2), {}, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        (ranks(4, 2, num_gpus=8), {}, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        (told(0, 1, 1, 1, num_gpus=3, local_ranks=(0, 0, 1, 2)), {}, ["cuda:0", "cuda:0", "cuda:1", "cuda:2"]),
        # Another host has more GPUs than rank 0's, or fewer; or each rank sees one of its own.
        (told(0, 1, 1, num_gpus=1, local_ranks=(0, 0, 1), gpus="0 01 01"), {}, ["cuda:0", "cuda:0", "cuda:1"]),
        (told(0, 0, 1, 1, num_gpus=2, local_ranks=(0, 1, 0, 1), gpus="01 01 0 0"), {},
         ["cuda:0", "cuda:1", "cuda:0", "cuda:0"]),
        (told(0, 0, num_gpus=1, local_ranks=(0, 1), gpus="0 1"), {}, ["cuda:0", "cuda:0"]),
    ],
)
def test_devices(host, run, devices):
    assert list(place(resolved(run=run), host).devices) == devices


@pytest.mark.parametrize(
    ("host", "run", "transport", "threads"),
    [
        (ALONE, {"stages": 2}, "auto", 2),
        (ALONE, {"stages": 3}, "auto", 1),
        (ALONE, {"stages": 6}, "auto", 1),
        (ALONE, {"stages": 2, "threads": 3}, "auto", 3),
        (ALONE, {"stages": 2}, "inline", 4),  # they take turns
        (ranks(4, 2), {}, "auto", 2),
        (told(0, 1, 1, 1), {}, "auto", 1),  # cores of the host that has most stages
        (ranks(4, 4), {}, "auto", 1),
    ],
)
def test_threads_of_each_stage(host, run, transport, threads):
    assert place(resolved(run=run, transport={"name": transport}), host).threads == threads


@pytest.mark.parametrize(
    ("host", "stages", "wanted", "expected"),
    [
        (ALONE, 2, "auto", "shared_memory"),
        (GPUS, 1, "auto", "shared_memory"),  # nobody to talk to
        (ranks(2, 2), 2, "auto", "shared_memory"),
        (ranks(4, 2), 4, "auto", "mixed"),
        (ranks(4, 1), 4, "auto", "process_group"),  # a host each
        (told(0, 0, 0), 3, "auto", "shared_memory"),
        (told(0, 1, 2), 3, "auto", "process_group"),
        (told(0, 1, 1), 3, "auto", "mixed"),
        (told(0, 1, 1), 3, "process_group", "process_group"),
        (told(0, 1, 1, num_gpus=2), 3, "auto", "process_group"),
        (told(0, 1, 1, num_gpus=1), 3, "auto", "mixed"),
        (told(0, 1, 1, num_gpus=1, local_ranks=(0, 0, 1), gpus="0 01 01"), 3, "auto", "process_group"),
        (told(0, 0, 1, 1, num_gpus=2, local_ranks=(0, 1, 0, 1), gpus="01 01 0 0"), 4, "auto", "mixed"),
        (told(0, 0, num_gpus=1, local_ranks=(0, 1), gpus="0 1"), 2, "auto", "process_group"),
        (told(0, 0, num_gpus=2, local_ranks=(0, 0), gpus="01 01"), 2, "auto", "shared_memory"),  # two of torchrun
        (ranks(6, 3, num_gpus=2), 6, "auto", "mixed"),
        (ALONE, 2, "mixed", "mixed"),
        (GPUS, 2, "auto", "process_group"),
        (GPUS, 3, "auto", "shared_memory"),  # two stages on one GPU
        (ranks(2, 2, num_gpus=2), 2, "auto", "process_group"),
        (ranks(3, 3, num_gpus=2), 3, "auto", "shared_memory"),
        (ranks(4, 2, num_gpus=2), 4, "auto", "process_group"),
        (ALONE, 2, "inline", "inline"),
        (ALONE, 2, "shared_memory", "shared_memory"),
        (ALONE, 2, "process_group", "process_group"),
        (GPUS, 3, "shared_memory", "shared_memory"),
        (GPUS, 1, "process_group", "process_group"),
        (ALONE, 2, "workers.transports.inline.Hub", "workers.transports.inline.Hub"),
    ],
)
def test_transports(host, stages, wanted, expected):
    assert place(resolved(run={"stages": stages}, transport={"name": wanted}), host).transport == expected


FOURTH = """
'''A transport of one file.'''
from workers.transport import Capabilities, Devices, Reach
CAPABILITIES = Capabilities(Reach.HOST, Devices.SHARED_GPU, auto_order=0)
def build(endpoint):
    raise NotImplementedError
"""


def test_auto_may_choose_a_transport_that_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "peer_gpu.py").write_text(FOURTH)
    monkeypatch.setattr(transports, "__path__", [*transports.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "workers.transports.peer_gpu", raising=False)
    chosen = [place(resolved(run={"stages": n}), host).transport for n, host in ((3, GPUS), (1, GPUS), (2, ALONE))]
    assert chosen == ["peer_gpu", "shared_memory", "shared_memory"]
    assert place(resolved(run={"stages": 1}, transport={"name": "peer_gpu"}), ALONE).transport == "peer_gpu"
    with pytest.raises(ConfigError, match=r"not connect stages on the CPU \(.*expected: stages that share a GPU\)"):
        place(resolved(run={"stages": 2}, transport={"name": "peer_gpu"}), ALONE)
    with pytest.raises(ConfigError, match="at most 2 stages per host, or --transport peer_gpu, shared_memory or auto"):
        place(resolved(run={"stages": 3}, transport={"name": "process_group"}), GPUS)


def test_auto_passes_over_a_transport_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import no_such_library\n")
    monkeypatch.setattr(transports, "__path__", [*transports.__path__, str(tmp_path)])
    assert place(resolved(run={"stages": 2}), ALONE).transport == "shared_memory"


@pytest.mark.parametrize(
    ("wanted", "is_one_process"), [("auto", False), ("shared_memory", False), ("inline", True), ("a.b", False)]
)
def test_which_transports_need_processes(wanted, is_one_process, monkeypatch):
    monkeypatch.setitem(sys.modules, "a", SimpleNamespace(b=SimpleNamespace()))
    monkeypatch.setitem(sys.modules, "a.b", SimpleNamespace(build=lambda endpoint: None))
    assert needs_processes(wanted) is not is_one_process
    placed = place(resolved(run={"stages": 2}, transport={"name": wanted}), ALONE)
    assert placed.in_one_process is is_one_process


@pytest.mark.parametrize(
    ("run", "expected", "measured"),
    [
        ({"stages": 3}, [1, 2, 3], [(1, "cpu")]),
        ({"stages": 3, "threads": 2}, [1, 2, 3], [(2, "cpu")]),
        ({"stages": 2, "partition": "parameters"}, [4, 2], []),
        ({"partition": [3, 2, 1]}, [3, 2, 1], []),
        ({"stages": 3, "partition": [3, 2, 1]}, [3, 2, 1], []),
        ({"stages": 1}, [6], []),  # nothing to weigh
        ({"stages": "blocks"}, [1] * 6, []),
    ],
)
def test_which_blocks(run, expected, measured, costs):
    assert sizes(place(resolved(run=run), ALONE)) == expected
    assert costs == measured


def test_blocks_are_measured_on_the_device_that_they_get(costs):
    place(resolved(run={"stages": 2, "threads": 1}), GPUS)
    assert costs == [(1, "cuda:0")]


@pytest.mark.parametrize(
    ("host", "sections", "text"),
    [
        (ALONE, {"run": {"device": "cuda"}},
         "there is no CUDA device here (run.device: cuda, expected: cpu or auto). Pass --device cpu."),
        (told(0, 1, 1, num_gpus=2, local_ranks=(0, 0, 1), gpus="01 01 "), {"run": {"device": "cuda"}},
         "rank 2 sees no CUDA device and rank 0 does (run.device: cuda, GPUs: 0 and 2, expected: one at least for each "
         "rank). Pass --device cpu, or start ranks where there are GPUs."),
        (ALONE, {"run": {"stages": 7}},
         "cannot split 6 blocks into 7 stages (blocks: 6, stages: 7). Lower --stages to at most 6."),
        (ranks(2, 2), {"schedule": {"mode": "backprop"}},
         "the mode backprop is one process (ranks: 2, expected: 1). Start it without --nproc-per-node, or choose "
         "gpipe or 1f1b."),
        (ranks(4, 4), {"run": {"stages": 3}},
         "torchrun gives one stage to each rank (run.stages: 3, ranks: 4). Leave --stages out, or start 3 ranks."),
        (ranks(4, 4), {"run": {"stages": "blocks"}}, "(run.stages: 6, ranks: 4). Leave --stages out, or start 6"),
        (ranks(8, 8), {},
         "cannot split 6 blocks into 8 stages (blocks: 6, ranks: 8). Lower --nproc-per-node to at most 6."),
        (ranks(8, 4), {},
         "cannot split 6 blocks into 8 stages (blocks: 6, ranks: 8). Start on all hosts together at most 6."),
        (ALONE, {"transport": {"name": "shared_memry"}},
         "unknown transport (given: 'shared_memry', expected: inline, mixed, process_group, shared_memory, or a dotted "
         "name of your own). Did you mean 'shared_memory'? See launch.py --list."),
        (ALONE, {"transport": {"name": "no_such_module.edges"}}, "cannot import the transport 'no_such_module.edges'"),
        (GPUS, {"transport": {"name": "process_group"}, "run": {"stages": 3}},
         "the process_group transport does not connect stages that share a GPU (stages: 3, GPUs here: 2, expected: "
         "stages on the CPU or stages on a GPU each). Choose at most 2 stages per host, or --transport shared_memory "
         "or auto."),
        (ranks(2, 2), {"transport": {"name": "inline"}},
         "the inline transport runs all stages in one process (ranks: 2, expected: 1). Start it without torchrun, or "
         "choose --transport shared_memory, process_group or auto."),
        (ranks(4, 2), {"transport": {"name": "shared_memory"}},
         "the shared_memory transport ends at the host (ranks: 4, on this host: 2). Choose --transport mixed, "
         "process_group or auto."),
        (GPUS, {"transport": {"name": "shared_memory"}, "run": {"stages": 2}},
         "the shared_memory transport does not connect stages on a GPU each (stages: 2, GPUs here: 2, expected: stages "
         "on the CPU or stages that share a GPU). Choose --transport process_group or auto."),
        (ALONE, {"run": {"partition": [2, 2]}},
         "run.partition: the stages do not cover the model (given: [2, 2], 4 blocks; expected: 6)."),
        (ALONE, {"run": {"partition": [3, 3], "stages": 3}},
         "run.partition lists 2 stages and 3 are to run (run.partition: [3, 3]). Change one of them."),
    ],
)  # fmt: skip
def test_what_cannot_be_placed(host, sections, text):
    with pytest.raises(ConfigError, match=re.escape(text)):
        place(resolved(**sections), host)


def test_nothing_fits_without_the_transport_that_joins_hosts(monkeypatch):
    monkeypatch.setattr(placement.registry, "known", lambda package: ["process_group", "shared_memory"])
    text = (
        "no transport connects stages that share a GPU over several hosts (ranks: 6, on this host: 3, GPUs here: 2). "
        "Choose at most 2 stages per host."
    )
    with pytest.raises(ConfigError, match=re.escape(text)):
        place(resolved(), ranks(6, 3, num_gpus=2))


@pytest.mark.parametrize(
    ("physical", "logical", "allowed", "cores"),
    [(8, 16, 16, 8), (8, 16, 3, 3), (None, 6, 6, 6), (None, None, 4, 1)],
)
def test_this_host(monkeypatch, physical, logical, allowed, cores):
    monkeypatch.setattr(resources.psutil, "cpu_count", lambda logical: physical)
    monkeypatch.setattr(resources.os, "cpu_count", lambda: logical)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda pid: range(allowed), raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert this_host() == Host(cores, 2)
    assert this_host(4, 2) == Host(cores, 2, 4, 2)
    monkeypatch.delattr(resources.os, "sched_getaffinity")
    assert this_host().cores == (physical or logical or 1)


@pytest.mark.parametrize(
    ("visible", "number", "names"),
    [(None, 2, ("0", "1")), (None, 0, ()), ("2, 3", 2, ("2", "3")), ("GPU-8f,1", 1, ("GPU-8f",)), ("", 0, ()),
     ("1", 2, ("0", "1"))],
)  # fmt: skip
def test_names_of_gpus(monkeypatch, visible, number, names):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert resources.gpu_names() == names


def test_alone():
    assert [h.is_alone for h in (ALONE, ranks(4, 4), ranks(4, 2))] == [True, True, False]
