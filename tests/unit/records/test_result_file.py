"""What stands in the way of going on from a run: one message for each."""

import json

import pytest

from pipeline.errors import ConfigError
from pipeline.records.result_file import RESULT, check_has_weights, completed_result, if_completed

WRONG = {
    "the run is not complete (given: RUN, status: not ended). Finish it with --resume RUN": None,
    "the run is not complete (given: RUN, status: failed). Finish it with": b'{"status": "failed"}',
    "the run's result cannot be read (given: RUN/result.json: Expecting value": b"",
    "the run's result cannot be read (given: RUN/result.json: 'utf-8' codec": b"\xff",
    "this is not the result of a run (given: RUN/result.json, expected: its status in it). Name ano": b"[]",
    "not the result of a run (given: RUN/result.json, expected: its status in it). Name another run": b"{}",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_one_message_for_each_thing_that_is_wrong(text, tmp_path):
    (tmp_path / "config.toml").touch()
    if (content := WRONG[text]) is not None:
        (tmp_path / RESULT).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        completed_result(tmp_path)
    assert text.replace("RUN", str(tmp_path)) in str(caught.value) and "\n" not in str(caught.value)
    assert if_completed(tmp_path) is None


@pytest.mark.parametrize("name", [".", "none", "y" * 300, "a\0b", "file"])
def test_there_is_no_run(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="there is no run .*config.toml and result.json in it.*Name another one"):
        completed_result(tmp_path / name)
    assert if_completed(tmp_path / name) is None


def test_a_run_that_has_ended_well(tmp_path):
    """Its other files are not asked for: a disk may have refused them."""
    (tmp_path / RESULT).write_text(json.dumps({"status": "completed", "emulated": True}))
    table = completed_result(tmp_path)
    assert table == if_completed(tmp_path) == {"status": "completed", "emulated": True}
    with pytest.raises(ConfigError, match="the run has no weights .*emulated by waiting.*Name another run"):
        check_has_weights(tmp_path, table)
    check_has_weights(tmp_path, {"status": "completed"})
