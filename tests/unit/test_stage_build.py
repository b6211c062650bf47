"""The data that a stage loads are those that its run was planned with."""

from types import SimpleNamespace

import pytest
import torch

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.resolve import data_bytes, resolve
from workers.stage_build import load_data

CPU = torch.device("cpu")


def job(folder, windows=0):
    """What ``load_data`` reads of a job on ``a.txt``."""
    dataset = {"name": "text", "path": "a.txt", "window": 8, "windows": windows}
    table = {"dataset": dataset, "model": {"name": "tests.support.position_net"}, "rule": {"name": "pred"}}
    return SimpleNamespace(resolved=resolve(Config.from_dict(table), folder), data_root=folder, start=None)


@pytest.mark.parametrize("windows", [0, 5])
@pytest.mark.parametrize("length", [1400, 90, 1001])
def test_a_text_that_has_changed_since_the_run_was_planned_is_refused(tmp_path, windows, length):
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    planned = job(tmp_path, windows)
    train, test, _ = load_data(planned, CPU)
    assert (train.num_samples, test.num_samples) == (windows or 112, 12)
    (tmp_path / "a.txt").write_bytes(b"x" * length)
    with pytest.raises(ConfigError, match=r"the data set text is not what the run was planned with \(given: .* bytes, "
                                          r"expected: .* 2000 bytes\)\. Start again"):
        load_data(planned, CPU)


def test_windows_that_are_drawn_take_no_memory(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    data = job(tmp_path, 2 * 10**9).resolved.data
    assert data.num_train == 2 * 10**9 and data_bytes(data) == data.stored_bytes == 2000
