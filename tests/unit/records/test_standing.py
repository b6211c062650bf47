"""How far a run is: the same as long as nobody goes on with it."""

import json

from pipeline.records.snapshots import Manifest, snapshot_folder
from pipeline.records.standing import Standing
from pipeline.schedules.cuts import Cut


def test_what_another_command_changes_is_seen(tmp_path):
    found = [Standing.of(tmp_path)]
    for steps in (4, 14):
        Manifest(Cut(0, steps), steps, {}).write(snapshot_folder(tmp_path, steps))
        found.append(Standing.of(tmp_path))
    again = Manifest(Cut(0, 14), 14, {0: 7})  # the same step, after a resume from the fourth
    again.write(snapshot_folder(tmp_path, 14))
    found.append(Standing.of(tmp_path))
    for status in ("failed", "completed"):
        (tmp_path / "result.json").write_text(json.dumps({"status": status}))
        found.append(Standing.of(tmp_path))
    assert found[4] == found[3] and len(set(found)) == 5
    told = [str(standing) for standing in found]
    assert told[0] == "without a snapshot" and told[1].startswith("step-4 (") and told[5] == f"{told[4]}, complete"
    assert told[2][:9] == told[3][:9] == "step-14 (" and told[2] != told[3] == told[4]
