"""What a stage on another host brings that shares the run's folder: only what the folder has refused."""

from tests.support.freight_lines import blocks_in, result_in, written

from workers.rescue_courier import RescueCourier


def test_what_is_in_the_runs_folder_stays_as_it_is(desk, disk, tmp_path):
    out = tmp_path / "out"
    paths = blocks_in(out / "snapshots" / "step-40", 2, 3)
    part = written(out / "trace-stage-1.part", 10)
    courier = RescueCourier(desk, disk / "rescued")
    courier.post(part, *paths)
    assert courier.bring_snapshot(out / "snapshots" / "step-40", [(2, 0), (3, 0)]) is None
    result = result_in(out / "snapshots" / "step-40", 2, 3)
    before = dict(result)
    courier.bring_result(result, lambda: None)
    courier.bring_result(empty := {"folder": "", "files": []}, lambda: None)  # of a replica other than the first
    courier.close()
    assert result == before and empty == {"folder": "", "files": []}
    assert all(path.exists() for path in (*paths, part)) and not (tmp_path / "spare").exists()


def test_what_the_folder_has_refused_is_brought_to_the_second_place(desk, disk, tmp_path):
    folder = disk / "rescued" / "snapshots" / "step-40"
    contents = {path.name: path.read_bytes() for path in blocks_in(folder, 2, 3)}
    courier, result = RescueCourier(desk, disk / "rescued"), {**result_in(folder, 2, 3), "trouble": "a full disk"}
    courier.bring_result(result, lambda: None)
    courier.close()
    there = tmp_path / "spare" / "snapshots" / "step-40"
    assert result["folder"] == str(there) and result["trouble"] == "a full disk"
    assert {p.name: p.read_bytes() for p in there.iterdir()} == contents
    assert not (disk / "rescued").exists() and not (tmp_path / "out").exists()


def test_what_the_second_place_refuses_stays_and_is_named(desk, disk, tmp_path, monkeypatch):
    monkeypatch.setattr("workers.courier.platform.node", lambda: "node1")
    (tmp_path / "spare").write_text("in the way")
    folder = disk / "rescued" / "snapshots" / "step-40"
    (path,) = blocks_in(folder, 2)
    courier, result = RescueCourier(desk, disk / "rescued"), result_in(folder, 2)
    courier.bring_result(result, lambda: None)
    courier.close()
    assert result["folder"] == f"node1:{folder}" and result["trouble"].startswith(f"node1:{folder}: ")
    assert path.exists() and not (tmp_path / "out").exists()
