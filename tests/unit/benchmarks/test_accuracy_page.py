"""Tables as Markdown: measured, published, accepted, and why a figure is missing."""

import dataclasses

import pytest

from benchmarks.accuracy.cell import Band, Cell, Check, Figure, PublishedTable
from benchmarks.accuracy.metrics import best, last
from benchmarks.accuracy.page import outside, render
from benchmarks.accuracy.store import Store

CELLS = [
    Cell("one", {"train.epochs": 2}, [Figure("rule a", "best", best, 2.75, Band(most=3.6)),
                                      Figure("rule a", "last", last)], seeds=(0, 1, 2)),
    Cell("two", {"train.epochs": 3}, [Figure("rule b", "best", best, 5.0, Band(4.0, 6.0), "the data is other")]),
    Cell("three", {"train.epochs": 4}, [Figure("rule b", "last", last, 1.5)], device="cuda"),
]  # fmt: skip
PAIR = (("rule b", "best"), ("rule a", "best"))
WORSE = Check("b is at least a point worse", [PAIR], Band(least=1.0))
TABLE = PublishedTable("some", "Some", "nobody", CELLS, [WORSE], "A note.")


def completed(seed, *errors):
    return {"seed": seed, "status": "completed", "errors": list(errors), "wall_s": 2.0, "epochs": len(errors),
            "commit": "abc", "device": "cpu", "threads": 1, "cpu": "Some CPU", "devices": []}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def lines(store, **options):
    about, empty, *found = render(TABLE, store, **options).splitlines()
    assert (about, empty) == ("**Some.** Source: nobody. A note.", "")
    return found


def test_before_anything_ran(store):
    assert lines(store) == [
        "|  | best | last |", "| --- | ---: | ---: |",
        "| rule a | not run (2.75; at most 3.6) | not run |",
        "| rule b | not run (5; 4 to 6) | needs a GPU (1.5) |", "",
        "Command: `python -m benchmarks.accuracy --table some`; not run yet.",
    ]  # fmt: skip
    found = lines(store, absent=lambda cell: "data not reachable offline" if cell.name == "two" else None)
    assert found[3] == "| rule b | data not reachable offline (5; 4 to 6) | needs a GPU (1.5) |"


def test_medians_over_seeds_stand_beside_what_was_published(store):
    for seed, errors in enumerate([(3.0, 4.0), (2.0, 9.0), (2.5, 2.5)]):
        store.add(TABLE, CELLS[0], completed(seed, *errors))
    store.add(TABLE, CELLS[1], completed(0, 7.0, 6.5, 7.0))
    found = lines(store)
    assert found[2] == "| rule a | 2.5 (2.75; at most 3.6) | 4 |"
    assert found[3] == "| rule b | **6.5, outside** (5; 4 to 6) | needs a GPU (1.5) |"
    assert found[5:7] == ["- b is at least a point worse: holds (4; accepted: at least 1)",
                          "- Outside (rule b, best): the data is other"]  # fmt: skip
    assert found[-1] == ("Command: `python -m benchmarks.accuracy --table some`; 4 runs of 2 or 3 epochs, "
                         "3 seeds at most, 8.00 s in all, on 1 thread of Some CPU, commit abc.")  # fmt: skip
    assert outside(TABLE, store) == [("rule b", "best")]


def test_a_check_that_does_not_hold_says_by_how_much(store):
    store.add(TABLE, CELLS[0], completed(0, 3.6))
    store.add(TABLE, CELLS[1], completed(0, 4.0))
    assert lines(store)[5] == (
        "- b is at least a point worse: **does not hold** (rule b, best - rule a, best: 0.4; accepted: at least 1)"
    )


def test_checks_of_many_pairs_say_how_many_could_be_made(store):
    pairs = [PAIR, (("rule b", "last"), ("rule a", "last"))]
    table = dataclasses.replace(TABLE, checks=[Check("b is worse", pairs, Band(least=0.0))])
    store.add(table, CELLS[0], completed(0, 3.0))
    store.add(table, CELLS[1], completed(0, 4.0))
    assert "- b is worse: open, 1 of 2 comparisons made (1; accepted: at least 0)" in render(table, store)
    store.add(table, CELLS[2], completed(0, 5.0))
    assert "- b is worse: holds, 2 of 2 comparisons\n" in render(table, store)


def test_a_check_without_a_band_says_the_difference_and_judges_nothing(store):
    table = dataclasses.replace(TABLE, checks=[Check("b less a", [PAIR], None)])
    store.add(table, CELLS[0], completed(0, 3.0))
    store.add(table, CELLS[1], completed(0, 4.0))
    assert "- b less a: 1\n" in render(table, store)


def test_several_differences_are_told_apart(store):
    store.add(TABLE, CELLS[0], completed(0, 3.0, 3.5))
    store.add(TABLE, CELLS[1], completed(0, 4.0))
    best_of_b, last_of_a = ("rule b", "best"), ("rule a", "last")
    for pairs, text in (
        ([PAIR, (PAIR[1], best_of_b)], "rule b: 1; rule a: -1"),
        ([PAIR, (last_of_a, best_of_b)], "rule b, best: 1; rule a, last: -0.5"),
    ):
        table = dataclasses.replace(TABLE, checks=[Check("less", pairs, None)])
        assert f"- less: {text}\n" in render(table, store)


def test_further_parts_are_told_what_was_run_and_counted(store):
    """Those that have nothing to say are left out."""
    def part(found):
        runs = [run["seed"] for cell in CELLS for run in found.completed(cell)]
        return f"seeds {runs}, counted {found.counted}"

    table = dataclasses.replace(TABLE, parts=[part, lambda found: ""])
    store.add(TABLE, CELLS[0], completed(2, 3.0))
    assert render(table, store).splitlines()[-4:-1] == ["", "seeds [2], counted {}", ""]
    beside = Store(store.folder / "accuracy")
    (store.folder / "arithmetic-some.json").write_text('{"arms": {"rule a": {"flop": 1}}}')
    assert "seeds [], counted {'rule a': {'flop': 1}}\n" in render(table, beside)


def test_a_run_that_failed_is_shown_with_its_error(store):
    store.add(TABLE, CELLS[1], {"seed": 0, "status": "failed", "error": "no such | rule\nat all", "wall_s": 1.0})
    found = lines(store)
    assert found[3].startswith("| rule b | failed (5; 4 to 6) |")
    assert "- Failed (two, seed 0): no such / rule at all" in found


def test_of_quick_runs_nothing_is_expected(tmp_path):
    store = Store(tmp_path, quick=True)
    store.add(TABLE, CELLS[0], completed(0, 3.0))
    store.add(TABLE, CELLS[1], completed(0, 90.0))
    text = render(TABLE, store)
    assert "| rule b | 90 (5; 4 to 6) |" in text and "outside" not in text.lower() and "hold" not in text
    assert "--table some --quick`" in text
