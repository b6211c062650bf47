"""Runs that are taken up after something other than a stage was lost: a cache, weights to be measured, the folder."""

import json
import shutil

import pytest
from tests.support.resumes import TINY, cuts_of, learned, resumed, written
from tests.support.runs import merged

from pipeline.config import Config
from pipeline.data.activation_cache import ActivationCache
from pipeline.errors import ConfigError, DiskError
from pipeline.records.snapshots import Manifest
from pipeline.records.weights import measured_folder
from workers.host.out_folder import claimed
from workers.result_keys import differences
from workers.resume import open_origin
from workers.run import train

SEQUENTIAL = {
    "schedule": {"mode": "sequential", "patience": 2}, "rule": {"name": "pred"}, "snapshot": {"every_steps": 1},
}  # fmt: skip
MEASURED = {"measure": {"every": 1}, "snapshot": {"every_epochs": 1}, "model": {"dropout": 0.0}}


def test_a_cache_that_found_no_room_is_not_tried_again(tmp_path, monkeypatch):
    """Each later epoch starts at the data, before and after the run is taken up."""
    puts, put = [], ActivationCache.put

    def full(cache, epoch, start, x, y):
        puts.append(epoch)
        if epoch >= 6:  # it is that of the last block's inputs
            raise OSError(28, "No space left on device")
        return put(cache, epoch, start, x, y)

    roomy = written(tmp_path / "roomy", SEQUENTIAL)
    monkeypatch.setattr(ActivationCache, "put", full)
    wanted = written(tmp_path / "full", SEQUENTIAL)
    assert wanted[0] == roomy[0] and wanted[3] == roomy[3] and max(puts) == 6
    tried = []
    for folder in cuts_of(tmp_path / "full"):
        cut, lost = Manifest.read(folder).cut, Manifest.read(folder).cache_lost
        if cut not in [(2, 3), (4, 2), (6, 2), (7, 0), (8, 3)]:
            continue
        puts.clear()
        if cut.epoch == 6:  # whose loss is not known yet
            with pytest.raises(DiskError, match=r"cannot be kept \(No space left .*\)\. Make room, or resume with "):
                resumed(tmp_path / "full", folder, tmp_path / "refused", SEQUENTIAL)
            shutil.rmtree(tmp_path / "refused")
            off = merged(SEQUENTIAL, {"schedule": {"cache": "off"}})
            found = resumed(tmp_path / "full", folder, tmp_path / folder.name, off)
            assert found[0] == wanted[0] and found[3] == wanted[3] and 6 in puts
            continue
        assert resumed(tmp_path / "full", folder, tmp_path / folder.name, SEQUENTIAL) == wanted
        if lost:
            assert lost == (6,) and puts == []
        tried.append(bool(lost))
    assert True in tried and False in tried


def test_a_run_is_not_copied_out_of_while_it_goes_on(tmp_path):
    written(tmp_path / "run", {"snapshot": {"every_epochs": 1}})
    changes = merged(TINY, {"snapshot": {"every_epochs": 1}, "train": {"epochs": 4}})
    origin = open_origin(tmp_path / "run", allow_changes=True)
    with claimed(tmp_path / "run", is_new=False), pytest.raises(ConfigError, match=r"another run writes .*wait for"):
        train(Config.from_dict(changes), out=tmp_path / "other", data_root=tmp_path, origin=origin)
    train(Config.from_dict(changes), out=tmp_path / "another", data_root=tmp_path, origin=origin)
    assert len(learned(tmp_path / "another")[1]) == 4


def folders_of(run):
    return sorted(path.name for path in [*run.iterdir(), *(run / "snapshots").iterdir()])


@pytest.mark.parametrize("place", ["run", "other"])
def test_a_run_that_has_gone_on_since_it_was_looked_at_is_left_alone(tmp_path, place):
    """Two commands take up the same run, and the first one ends while the second one still makes its plan."""
    run, every = tmp_path / "run", {"snapshot": {"every_steps": 1, "keep": 2}}

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workers.run.Session.finish", stop)
        with pytest.raises(KeyboardInterrupt):
            written(run, every)
    late = open_origin(run)
    longer = merged(every, {"train": {"epochs": 4}})
    train(Config.from_dict(merged(TINY, longer)), out=run, data_root=tmp_path,
          origin=open_origin(run, allow_changes=True))  # fmt: skip
    wanted, folders = learned(run), folders_of(run)
    config = Config.from_dict(merged(TINY, every))
    told = r"gone on since .*run, then step-14 \(\w+\), now step-20 \(\w+\), complete\)\..* resume it"
    with pytest.raises(ConfigError, match=told):
        train(config, out=tmp_path / place, data_root=tmp_path, origin=late)
    assert learned(run) == wanted and folders_of(run) == folders


def epochs_measured(run):
    return [row["epoch"] for row in json.loads((run / "measurements.json").read_text())["epochs"]]


def test_an_epoch_that_was_not_kept_is_missing_in_the_measurements_alone(tmp_path):
    wanted = written(tmp_path / "run", MEASURED)
    assert epochs_measured(tmp_path / "run") == [0, 1, 2, 3]
    (tmp_path / "run" / "measurements.json").unlink()
    shutil.rmtree(measured_folder(tmp_path / "run", 1))
    folder = cuts_of(tmp_path / "run")[-1]
    assert resumed(tmp_path / "run", folder, tmp_path / "other", MEASURED) == wanted
    assert epochs_measured(tmp_path / "other") == [0, 2, 3]


def test_what_was_measured_before_the_weights_were_let_go_stays(tmp_path):
    changes = merged(MEASURED, {"measure": {"keep_weights": False}})
    written(tmp_path / "run", changes)
    before = json.loads((tmp_path / "run" / "measurements.json").read_text())["epochs"]
    longer = Config.from_dict(merged(merged(TINY, changes), {"train": {"epochs": 5}}))
    for out in (tmp_path / "other", tmp_path / "run"):
        origin = open_origin(tmp_path / "run", allow_changes=True)
        train(longer, out=out, data_root=tmp_path, origin=origin)
        assert epochs_measured(out) == [0, 1, 2, 3, 4, 5]
        assert json.loads((out / "measurements.json").read_text())["epochs"][1:4] == before[1:4]


def test_micro_batches_are_compared_as_they_turned_out(tmp_path):
    """gpipe cuts a batch into four by itself; written down or not, that is the same run."""
    changes = {"schedule": {"mode": "gpipe"}, "snapshot": {"every_epochs": 1}, "model": {"norm": "none"}}
    wanted = written(tmp_path / "run", changes)
    folder = cuts_of(tmp_path / "run")[0]
    four = merged(changes, {"train": {"microbatches": 4}})
    assert resumed(tmp_path / "run", folder, tmp_path / "four", four) == wanted
    with pytest.raises(ConfigError, match=r"not be the same \(train\.microbatches: 4 in the run, now 2\)"):
        resumed(tmp_path / "run", folder, tmp_path / "two", merged(changes, {"train": {"microbatches": 2}}))


def test_keys_that_a_run_of_before_does_not_have_are_as_by_default():
    now = Config.from_dict(TINY).to_dict()
    was = {**now, "train": {key: now["train"][key] for key in ("epochs", "batch_size")}}
    assert differences(was, now) == {}
    now["train"]["patience"] = 3
    assert differences(was, now) == {"train.patience": (0, 3)}
