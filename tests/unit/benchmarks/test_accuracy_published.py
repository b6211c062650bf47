"""Every cell of every table: a config that a run would accept, names that are files, figures that can be found."""

import struct

import pytest
from tests.support.products import rare

from benchmarks.accuracy.__main__ import RESULTS
from benchmarks.accuracy.metrics import best, last
from benchmarks.accuracy.store import Store
from benchmarks.published import TABLES
from pipeline.resolve import resolve

CELLS = {f"{table.name}/{cell.name}": cell for table in TABLES.values() for cell in table.cells}


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """Data sets that are there as far as anyone looks before a run: headers of MNIST, empty files of CIFAR-10."""
    root = tmp_path_factory.mktemp("data")
    for name in ("MNIST", "FashionMNIST"):
        raw = root / name / "raw"
        raw.mkdir(parents=True)
        for split, count in (("train", 60000), ("t10k", 10000)):
            for content, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
                header = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
                (raw / f"{split}-{content}-ubyte").write_bytes(header)
    (root / "text").mkdir()
    (root / "text" / "shakespeare.txt").write_bytes(bytes(20_000))
    batches = root / "cifar-10-batches-py"
    batches.mkdir()
    for name in [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]:
        (batches / name).touch()
    (root / "cifar-100-python").mkdir()
    for split in ("train", "test"):
        (root / "cifar-100-python" / split).touch()
        for label in range(10):
            folder = root / "cifar10-jpeg" / split / str(label)
            folder.mkdir(parents=True)
            for picture in range(1000 if split == "train" else 1):
                (folder / f"{picture}.png").touch()
    return root


def shape(value):
    """What a config names and which options it has, without their values."""
    if not isinstance(value, dict):
        return type(value).__name__
    return tuple(sorted((key, v if key == "name" else shape(v)) for key, v in value.items()))


def usual():
    """Cells of one shape are looked at once, on whatever data set; of each table there is at least one.

    Those of ``lm-m`` take seconds each, and differ in values from cells of ``lm``.
    """
    found = {}
    for table in TABLES.values():
        for cell in table.cells:
            sections = cell.nested(cell.seeds[0])
            del sections["dataset"]
            found.setdefault(shape(sections), f"{table.name}/{cell.name}")
    firsts = {f"{table.name}/{table.cells[0].name}" for table in TABLES.values()}
    return {name for name in {*found.values(), *firsts} if not name.startswith("lm-m/")}


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_has_a_config_that_is_allowed(name):
    config = CELLS[name].checked(CELLS[name].seeds[0])
    assert config.run.stages == 1 and config.run.threads == 1 and not config.run.predict
    assert config.run.device == CELLS[name].device


@pytest.mark.parametrize("name", rare(CELLS, but=usual()))
def test_every_cell_can_be_run_as_far_as_can_be_told_before(name, data_root):
    cell = CELLS[name]
    resolved = resolve(cell.checked(cell.seeds[0]), data_root)
    assert resolved.num_blocks > 1 or resolved.config.rule.name == "backprop"
    whole = all(figure.metric in (best, last) for figure in cell.figures)
    is_text = resolved.config.dataset.name == "text"  # of which losses after the last epoch are read
    assert resolved.config.train.eval_every == 1 or whole or is_text  # errors are counted by epochs


@pytest.mark.parametrize("name", TABLES)
def test_names_places_and_checks_of_a_table_fit(name):
    table = TABLES[name]
    assert table.source and table.title and table.cells
    assert len({cell.name for cell in table.cells}) == len(table.cells)
    assert all(set(cell.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") for cell in table.cells)
    assert sum(len(cell.figures) for cell in table.cells) == len(table.figures())
    assert all(place in table.figures() for check in table.checks for pair in check.pairs for place in pair)
    assert all(check.pairs for check in table.checks)
    assert all(len(set(cell.seeds)) == len(cell.seeds) > 0 and cell.limit_s > 0 for cell in table.cells)


@pytest.mark.parametrize("name", [name for name in CELLS if name.startswith("gated-")])
def test_quick_runs_of_waves_reach_the_last_block(name, data_root):
    resolve(CELLS[name].checked(quick=True), data_root)


def test_what_two_cores_cannot_do_is_left_to_a_gpu():
    on_gpu = {name.partition("/")[0] for name, cell in CELLS.items() if cell.device == "cuda"}
    assert on_gpu == {"nokland2016-full", "nokland-eidnes-mnist-full", "nokland-eidnes-cifar10",
                      "nokland-eidnes-cifar10-jpeg", "nokland-eidnes-cifar10-wide", "nokland-eidnes-cifar100", "lm-m"}


def test_o_ld4_of_twenty_recorded_runs_at_least_fifteen_have_98_percent_right():
    """O-LD4: of 20 recorded runs, one block after another with trained decoders, 15 or more have 98 % of signed xor
    right."""
    table = TABLES["mertens"]
    (cell,) = [cell for cell in table.cells if cell.name == "sequential-trained"]
    errors = [last(found) for found in Store(RESULTS).completed(table, cell)]
    assert len(errors) == 20 and sum(error <= 2.0 for error in errors) >= 15
