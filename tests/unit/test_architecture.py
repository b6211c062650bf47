"""Two folders, one idea: ``pipeline`` is what and when, ``workers`` is where."""

import ast
import re
import sys
from pathlib import Path

import pytest

from pipeline.registry import known

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([
    *ROOT.glob("pipeline/**/*.py"), *ROOT.glob("workers/**/*.py"), ROOT / "launch.py", ROOT / "onward.py",
])  # fmt: skip
WINGS = {
    "pipeline": (
        "errors lazy numerics pickles", "memory places ranges", "values", "registry data",
        "config network optim datasets", "learning models dataset_of", "schedules rules local_rule",
        "checks measurable records", "mixture", "resolve weights", "engine", "planning measure trained",
    ),
    "workers": (
        "host messages transport rescue agent_store", "control run_key hosts freight replica_edges replication",
        "line", "watch control_port visit courier",
        "coordinator last_words next_move rescue_courier",
        "coordination", "transports cost_cache chaos trace_origin", "cached_costs edges", "memory", "placement",
        "job result_keys", "trace_file snapshot_writer resume", "measure_run final_weights stage_build", "worker",
        "launchers view flags flag_parser generate listing", "dry_run listening", "run_plan ranks planner loggers",
        "run rank_lines away rank_0", "comparison torchrun rank_end", "sweep", "report", "front",
    ),
}  # fmt: skip
"""Folders and files of both packages, floor by floor: imports go down, and never to a neighbour on the same floor."""
FORBIDDEN = ("torch.distributed", "multiprocessing", "threading", "subprocess", "workers")


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Names imported anywhere in a file when it runs, inside functions too; not those for the type checker alone."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", [p for p in FILES if "pipeline" in p.parts], ids=module_name)
def test_pipeline_starts_no_process_and_knows_no_worker(path):
    found = [n for n in imports_of(path) if any(n == f or n.startswith(f + ".") for f in FORBIDDEN)]
    assert found == []


def test_there_is_no_import_cycle():
    modules = {module_name(p): p for p in FILES}
    graph = {name: {n for n in imports_of(path) if n in modules and n != name} for name, path in modules.items()}
    while leaves := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert graph == {}


def wing(name):
    """The package and the folder or file in it that a module belongs to; None for the front doors."""
    package, _, rest = name.partition(".")
    return (package, rest.partition(".")[0]) if rest else None


def floor(place):
    """How far up a wing stands."""
    package, name = place
    found = [level for level, names in enumerate(WINGS[package]) if name in names.split()]
    assert len(found) == 1, f"{package}/{name} stands on no floor of WINGS, or on two"
    return found[0]


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "launch.py"], ids=module_name)
def test_imports_go_down_from_floor_to_floor(path):
    modules = {module_name(p) for p in FILES}
    here = wing(module_name(path))
    for name in (n for n in imports_of(path) if n in modules):
        there = wing(name)
        if here is not None and there is not None and here != there and here[0] == there[0]:
            assert floor(there) < floor(here), f"{module_name(path)} imports {name}"


def test_every_wing_is_there():
    here = {wing(module_name(p)) for p in FILES if p.name != "launch.py"} - {None}
    assert {(package, n) for package, floors in WINGS.items() for names in floors for n in names.split()} == here


def texts_of(path):
    """Every string that a file makes use of: docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    unused = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unused:
            yield node.value


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name != "transports"], ids=module_name)
def test_no_transport_is_asked_for_by_name(path):
    """What a transport can do it declares itself; a name elsewhere would have to be changed with every new one."""
    words = {word for text in texts_of(path) for word in re.findall(r"\w+", text)}
    assert words & set(known("workers.transports")) == set()


def test_no_file_shadows_a_package_or_the_standard_library():
    names = {p.stem for p in ROOT.glob("**/*.py") if ".venv" not in p.parts and "build" not in p.parts}
    assert names & {"pipeline", "workers", "utils", "helpers", "common"} == set()
    # Imported by their whole names only: these are the names of a config, and of a flag.
    plugins = [ROOT / folder for folder in ("pipeline/rules", "pipeline/datasets", "workers/loggers")]
    inside = {p.stem for p in FILES if p.parent not in plugins}
    used = {name.partition(".")[0] for path in FILES for name in imports_of(path)} & sys.stdlib_module_names
    assert inside & used == set()


def test_only_the_launcher_prints():
    printing = [
        module_name(p) for p in FILES if p.name != "launch.py"
        for node in ast.walk(ast.parse(p.read_text(encoding="utf8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]  # fmt: skip
    assert printing == []
