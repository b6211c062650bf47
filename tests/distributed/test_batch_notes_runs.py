"""A rule that asks is told which samples its micro-batches have, wherever it is."""

import pytest
import torch
from tests.support.resumes import TINY, cuts_of, resumed, written
from tests.support.runs import merged, run

from pipeline.config import Config
from pipeline.records.weights import latest_weights, load_blocks
from pipeline.resolve import load_dataset

pytestmark = pytest.mark.distributed
BASE = merged(TINY, {"rule": {"name": "tests.support.noting_rule"}, "train": {"epochs": 2}, "model": {"norm": "none"}})


@pytest.mark.parametrize("changes", [
    {}, {"run": {"stages": 3}, "transport": {"name": "shared_memory"}}, {"train": {"microbatches": 5}},
    {"run": {"stages": 2}, "transport": {"name": "process_group"}, "train": {"microbatches": 4}},
    {"schedule": {"mode": "sequential"}, "train": {"epochs": 4}, "run": {"stages": 2}},
], ids=["one", "three", "parts", "both", "sequential"])  # fmt: skip
def test_every_block_is_told_the_samples_of_every_batch(tmp_path, changes):
    """The labels are those of the data set; and a step has one seed, which no other has."""
    run(tmp_path / "run", changes, base=BASE)
    config = Config.from_dict(merged(BASE, changes))
    wanted = load_dataset(config, tmp_path).load()[0].y
    blocks = load_blocks(latest_weights(tmp_path / "run"))
    assert len(blocks) == 4
    for state in blocks:
        assert torch.equal(state["labels"], wanted)
        assert sorted(state["seeds"].unique(return_counts=True)[1].tolist()) == [4, 12, 12, 12, 12]


def test_a_run_that_is_taken_up_goes_on_with_the_samples_of_its_step(tmp_path):
    each = {"snapshot": {"every_steps": 1}}
    reference = written(tmp_path / "run", each, BASE)
    for cut in cuts_of(tmp_path / "run")[3:7]:
        assert resumed(tmp_path / "run", cut, tmp_path / cut.name, each, BASE)[:4] == reference[:4]


def test_a_dry_run_may_take_more_samples_than_there_are(tmp_path):
    """It begins again, as its data do."""
    table = run(tmp_path / "run", {"run": {"predict": True}, "train": {"epochs": 40, "batch_size": 50}}, base=BASE)
    assert table["predicted"] is not None
