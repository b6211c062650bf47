import json
import re

import pytest
import torch
from torch import nn

from pipeline.errors import DamagedFile
from pipeline.records.snapshots import Manifest
from pipeline.records.weights import latest_weights, load_blocks, save_block
from pipeline.schedules.cuts import Cut


def saved(run, step, states, complete=True):
    folder = run / "snapshots" / f"step-{step}"
    files = {k: save_block(folder, k, state) for k, state in enumerate(states)}
    if complete:
        Manifest(Cut(1, 0), step, files).write(folder)
    return folder


def test_what_is_saved_is_read_again(tmp_path):
    modules = [nn.Linear(3, 2), nn.BatchNorm1d(2)]
    folder = saved(tmp_path, 4, [m.state_dict() for m in modules])
    found = load_blocks(latest_weights(tmp_path))
    assert len(found) == 2
    for module, state in zip(modules, found, strict=True):
        assert list(state) == list(module.state_dict())
        assert all(torch.equal(state[n], t) for n, t in module.state_dict().items())
    assert sorted(p.name for p in folder.iterdir()) == [
        "block-000.safetensors", "block-001.safetensors", "manifest.json",
    ]  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["num_blocks"], manifest["steps"], manifest["cut"]) == (2, 4, {"epoch": 1, "step": 0})


def test_the_weights_of_the_chosen_epoch_or_the_last_ones(tmp_path):
    first = {"a/b": torch.zeros(2), "kept/7/a/b": torch.ones(2), "optimizer/a/b": torch.ones(3)}
    states = [first, {"c": torch.ones(1)}]
    folder = saved(tmp_path, 4, states)
    last, chosen = load_blocks(folder), load_blocks(folder, chosen=True)
    assert [list(state) for state in last] == [list(state) for state in chosen] == [["a/b"], ["c"]]
    assert last[0]["a/b"].tolist() == [0, 0] and chosen[0]["a/b"].tolist() == [1, 1]


def test_a_block_that_is_saved_again_is_not_the_one_that_the_manifest_means(tmp_path):
    folder = saved(tmp_path, 1, [{"x": torch.zeros(2)}])
    save_block(folder, 0, {"x": torch.ones(2, requires_grad=True)})
    with pytest.raises(DamagedFile, match="block-000.safetensors: it is whole, and not the one that the manifest"):
        load_blocks(folder)
    (state,) = load_blocks(saved(tmp_path, 1, [{"x": torch.ones(2, requires_grad=True)}]))
    assert torch.equal(state["x"], torch.ones(2)) and not state["x"].requires_grad


def test_weights_of_older_runs_are_read(tmp_path):
    torch.save({"x": torch.ones(2)}, tmp_path / "block-000.pt")
    (tmp_path / "manifest.json").write_text('{"num_blocks": 1}')
    (state,) = load_blocks(tmp_path)
    assert torch.equal(state["x"], torch.ones(2))


def test_a_file_of_an_older_run_beside_others_is_not_read(tmp_path):
    folder = saved(tmp_path, 1, [{"x": torch.zeros(2)}])
    torch.save({"x": torch.ones(2)}, folder / "block-000.pt")
    (state,) = load_blocks(folder)
    assert torch.equal(state["x"], torch.zeros(2))


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"num_blocks": "many"}', '{"num_blocks": 2}', None])
def test_older_weights_that_are_damaged(tmp_path, manifest):
    torch.save({"x": torch.ones(2)}, tmp_path / "block-000.pt")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(DamagedFile, match="block-001.pt" if manifest == '{"num_blocks": 2}' else "manifest.json"):
        load_blocks(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", [1, 2], {"x": 3}], ids=str)
def test_an_older_file_that_holds_no_weights(tmp_path, content):
    (tmp_path / "manifest.json").write_text('{"num_blocks": 1}')
    path = tmp_path / "block-000.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(DamagedFile, match="block-000.pt"):
        load_blocks(tmp_path)


def test_the_newest_complete_one_by_number(tmp_path):
    for step, complete in [(9, True), (10, True), (2, True), (11, False)]:
        saved(tmp_path, step, [{"x": torch.zeros(1)}], complete)
    saved(tmp_path, "99-copy", [{"x": torch.zeros(1)}])
    assert latest_weights(tmp_path).name == "step-10"


@pytest.mark.parametrize("step", [None, 3, "old"])
def test_nothing_complete(tmp_path, step):
    if step is not None:
        saved(tmp_path, step, [{"x": torch.zeros(1)}], complete=step == "old")
    text = f"no complete weights (given: {tmp_path}, expected: snapshots/step-N/manifest.json in it). Name the folder"
    with pytest.raises(FileNotFoundError, match=re.escape(text)):
        latest_weights(tmp_path)
