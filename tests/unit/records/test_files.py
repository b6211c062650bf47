import json

import pytest

from pipeline.records.files import jsonable, whole_file, write_json


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"a": 1})
    with whole_file(path) as part:
        part.write_text("half")
        assert part.parent == tmp_path and json.loads(path.read_text()) == {"a": 1}
    assert path.read_text() == "half" and [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), whole_file(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["table.json"]


def test_json_has_no_word_for_what_is_not_finite(tmp_path):
    table = {"loss": float("nan"), "rows": [1.5, float("inf"), (2, "x")]}
    assert jsonable(table) == {"loss": None, "rows": [1.5, None, [2, "x"]]}
    write_json(tmp_path / "t.json", table)
    assert json.loads((tmp_path / "t.json").read_text()) == {"loss": None, "rows": [1.5, None, [2, "x"]]}
