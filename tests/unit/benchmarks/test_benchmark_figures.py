"""Figures from the files of a run."""

import json
import re
import sys

import numpy as np
import pytest

from benchmarks import figures
from workers.report.measured import read_run

BLOCKS, EPOCHS = 3, 4
DRAWN = ["accuracies", "angles", "depth", "errors", "losses", "maps", "tsne", "updates"]


def measured_row(epoch):
    blocks = [
        {
            "block": k, "angle_deg": None if epoch == 0 and k == 0 else 80.0 - 5 * k, "credit": None,
            "test_accuracy": 0.9 if k == 2 else None, "readout_accuracy": None if k == 2 else 0.5 + 0.1 * k,
            "update": None if epoch == 0 else 0.5 / epoch if k else 0.0,
        }
        for k in range(BLOCKS)
    ]  # fmt: skip
    return {"epoch": epoch, "angle_deg": 70.0, "depth_of_credit": None, "blocks": blocks}


def recorded_row(epoch, stage):
    blocks = range(2) if stage == 0 else range(2, 3)
    credit = 1.0 / (epoch + 1)
    found = [{"block": k, "credit": credit if k else None, "test_accuracy": 0.1 * k or None} for k in blocks]
    if stage == 1:
        found[-1].update(train_loss=2.0**-epoch, test_loss=1.0, train_accuracy=0.5)
    return {"time_s": 0.0, "event": "epoch", "epoch": epoch, "stage": stage, "blocks": found}


def a_run(folder, *, measured=True):
    """A run's folder as far as figures read it."""
    (folder / "measurements").mkdir(parents=True)
    rows = [recorded_row(e, s) for e in range(EPOCHS) for s in (1, 0)]
    lines = [{"event": "header"}, *rows, {"event": "result"}]
    (folder / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if measured:
        table = {"num_blocks": BLOCKS, "epochs": [measured_row(e) for e in (0, 2, 4)]}
        (folder / "measurements.json").write_text(json.dumps(table))
        axis = np.linspace(-1, 1, 60)
        values = np.broadcast_to(axis[None, None, None, :] * axis[None, None, :, None], (3, BLOCKS, 60, 60)).copy()
        values[0] = 2.0  # flat: no boundary
        levels = np.zeros((3, BLOCKS))
        levels[0] = np.nan
        np.savez(folder / "measurements" / "maps.npz", epochs=[0, 2, 4], x_axis=axis, y_axis=axis, values=values,
                 levels=levels)  # fmt: skip
        points = np.random.default_rng(0).normal(size=(2, 2, 30, 2))
        np.savez(folder / "measurements" / "tsne.npz", epochs=[0, 4], blocks=[0, 2], points=points,
                 labels=np.arange(30) % 12)  # fmt: skip
    return folder


def test_curves_of_a_measured_run(tmp_path):
    found = read_run(a_run(tmp_path / "mine"))
    assert found.name == "mine" and found.angles[0] == {2: 80.0, 4: 80.0} and found.angles[2][0] == 70.0
    assert list(found.accuracies) == [0, 1, 2] and found.accuracies[1] == {0: 0.6, 2: 0.6, 4: 0.6}
    assert found.fitted == {0, 1}
    assert found.depth == {1: 2.0, 2: 1.0, 3: pytest.approx(2 / 3), 4: 0.5}
    assert found.updates[0] == {2: 0.0, 4: 0.0} and found.updates[1] == {2: 0.25, 4: 0.125}
    assert found.maps["values"].shape == (3, 3, 60, 60) and found.tsne["blocks"].tolist() == [0, 2]


def test_a_run_that_was_not_measured_has_its_record(tmp_path):
    found = read_run(a_run(tmp_path / "mine", measured=False))
    assert found.angles == {} and found.maps is None and found.tsne is None and found.fitted == frozenset()
    assert found.output["train_loss"] == {1: 1.0, 2: 0.5, 3: 0.25, 4: 0.125} and found.updates == {}
    assert found.output["train_accuracy"] == dict.fromkeys(range(1, 5), 0.5)
    assert found.accuracies == {1: dict.fromkeys(range(1, 5), 0.1), 2: dict.fromkeys(range(1, 5), 0.2)}


def test_a_record_that_breaks_off_is_read_as_far_as_it_goes(tmp_path):
    """Of a run that goes on, or was killed; a row inside that a loss of power has torn is left out."""
    record = a_run(tmp_path / "mine", measured=False) / "record.jsonl"
    whole = read_run(tmp_path / "mine")
    record.write_text(record.read_text().removesuffix('"result"}\n'))
    assert read_run(tmp_path / "mine") == whole
    lines = record.read_text().splitlines()
    lines[1] = lines[1].replace("{", "[", 1)  # what the output block did in the first epoch
    record.write_text("\n".join(lines) + "\n")
    assert read_run(tmp_path / "mine").output["train_loss"] == {2: 0.5, 3: 0.25, 4: 0.125}
    lines[1] = '{"event": "epoch"}'
    record.write_text("\n".join(lines) + "\n")
    with pytest.raises(KeyError, match="blocks"):
        read_run(tmp_path / "mine")


def test_figures_are_drawn_into_files(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib draws the figures and is not installed")
    assert figures.main([str(a_run(tmp_path / "mine"))]) == 0
    drawn = sorted(p.name for p in (tmp_path / "mine" / "figures").iterdir())
    assert drawn == [f"{name}.svg" for name in DRAWN]
    assert len(re.findall("^drawn: ", capsys.readouterr().out, re.M)) == 8
    text = (tmp_path / "mine" / "figures" / "accuracies.svg").read_text()
    assert "block 0, linear probe" in text and "block 2<" in text and "test accuracy, %" in text


def test_runs_are_compared_side_by_side(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws the figures and is not installed")
    runs = [str(a_run(tmp_path / "first")), str(a_run(tmp_path / "second", measured=False))]
    assert figures.main([*runs, "--out", str(tmp_path / "both"), "--format", "png"]) == 0
    assert {p.name for p in (tmp_path / "both").iterdir()} == {f"{name}.png" for name in DRAWN}


def test_the_same_figures_are_the_same_bytes(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib draws the figures and is not installed")
    run = str(a_run(tmp_path / "mine"))
    for name in ("one", "two"):
        figures.main([run, "--out", str(tmp_path / name)])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_labels_are_moved_apart_and_no_further():
    lines = pytest.importorskip("benchmarks.lines", reason="matplotlib draws the figures and is not installed")
    assert lines.apart([0.9, 0.1, 0.5], 0.1) == pytest.approx([0.9, 0.1, 0.5])
    assert lines.apart([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    assert lines.apart([1.0, 1.0, 0.0], 0.25) == pytest.approx([0.75, 1.0, 0.0])
    assert lines.apart([0.5] * 21, 0.1) == pytest.approx([i / 20 for i in range(21)])
    assert lines.apart([0.3], 0.1) == pytest.approx([0.3])


def test_a_folder_that_is_no_runs(tmp_path, capsys):
    assert figures.main([str(tmp_path)]) == 2
    assert re.search(r"not the folder of a run \(given: .*, expected: record.jsonl in it\)", capsys.readouterr().err)


def test_nothing_to_draw(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib draws the figures and is not installed")
    (tmp_path / "record.jsonl").write_text('{"event": "header"}\n')
    assert figures.main([str(tmp_path)]) == 1
    assert "nothing to draw (given: runs that have finished no epoch)" in capsys.readouterr().err


def test_without_matplotlib_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "benchmarks.drawings", None)
    monkeypatch.delattr("benchmarks.drawings", raising=False)
    assert figures.main([str(a_run(tmp_path / "mine"))]) == 1
    assert "Install matplotlib: pip install 'onward-pipeline[plots]'" in capsys.readouterr().err
