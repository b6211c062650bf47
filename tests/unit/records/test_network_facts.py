import json

import pytest
import torch

from pipeline.data.dataset import Normalisation
from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Binary, Classification, Logistic
from pipeline.errors import DamagedFile
from pipeline.records.network_facts import NetworkFacts, read_facts, write_facts


class Ranking(Classification):
    """A task of a user's own."""


TASKS = [
    Classification(7), Logistic(7), Binary(), PositionClasses(5, (3,)), PositionClasses(256, (9,), is_bytes=True),
    Regression(2), Regression(2, (4,)),
]  # fmt: skip


@pytest.mark.parametrize("task", TASKS, ids=lambda t: f"{type(t).__name__}{t.out_shape}")
@pytest.mark.parametrize("scale", [None, Normalisation((0.1, 0.2), (0.3, 0.4))])
def test_what_is_written_is_read(tmp_path, task, scale):
    write_facts(tmp_path, NetworkFacts((2, 3), task, scale, b"\x00\xff", 60, torch.uint8))
    found = read_facts(tmp_path)
    assert (found.input_shape, found.normalisation, found.structure) == ((2, 3), scale, b"\x00\xff")
    assert (found.num_train, found.input_dtype) == (60, torch.uint8)
    assert type(found.task) is type(task) and found.task.out_shape == task.out_shape
    assert (found.task.label_shape, found.task.headline) == (task.label_shape, task.headline)


def test_a_task_of_ones_own_is_left_to_the_data_set(tmp_path):
    write_facts(tmp_path, NetworkFacts((2,), Ranking(3), None))
    assert read_facts(tmp_path) == NetworkFacts((2,), None, None)


def test_an_earlier_version_wrote_none(tmp_path):
    assert read_facts(tmp_path) is None


@pytest.mark.parametrize(
    "changes",
    [{"task": "guessing"}, {"structure": "???"}, {"num_outputs": None}, {"input_shape": 1}, {"input_dtype": "float99"}],
)
def test_what_is_none_is_damaged(tmp_path, changes):
    write_facts(tmp_path, NetworkFacts((2,), Classification(3), None))
    path = tmp_path / "network.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(DamagedFile, match="network.json"):
        read_facts(tmp_path)
