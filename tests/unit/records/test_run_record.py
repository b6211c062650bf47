import json

from pipeline.numerics.digest import combine
from pipeline.records import run_record
from pipeline.records.run_record import Recorder, gate_rows, odd_twins, result_table
from pipeline.schedules.plan import BlockMode, Plan
from pipeline.schedules.schedule import EpochResult


def test_rows_are_on_disk_at_once_and_appended(tmp_path, monkeypatch):
    monkeypatch.setattr(run_record.time, "time", lambda: 12.34567)
    path = tmp_path / "record.jsonl"
    first = Recorder(path)
    first.write({"event": "epoch", "loss": None, "text": "a\nb"})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"time_s": 12.346, "event": "epoch", "loss": None, "text": "a\nb"}
    ]
    first.close()
    second = Recorder(path)
    second.write({"event": "end"})
    second.close()
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["epoch", "end"]


def test_gates_are_those_of_the_newest_epoch_and_drifts_those_of_all():
    one = [[{"block": 0}, {"block": 1, "gate": 0.5, "drift": d, "axes": [d, d, d]}] for d in (3.0, 1.0, 2.0)]
    last = [{"block": 0, "gate": 1.0}, {"block": 1}]  # block 1 does not learn any more
    found = gate_rows([*one, last])
    newest = {"gate": 0.5, "drift": 2.0, "axes": [2.0, 2.0, 2.0], "drifts": [1.0, 2.0, 3.0]}
    assert found == {0: {"gate": 1.0}, 1: newest} and gate_rows([[{"block": 0}]]) == {}


def epoch(number, letters):
    modes = {"T": BlockMode.TRAIN, "F": BlockMode.FROZEN, ".": BlockMode.IDLE}
    plan = Plan(number, tuple(modes[letter] for letter in letters), (0,) * len(letters))
    return EpochResult(plan, tuple(0.5 if letter == "T" else None for letter in letters))


STAGES = [
    {"row": {"stage": 0, "samples": 40, "wall_s": 1.0}, "digests": {0: "d0", 1: "d1"}, "steps": 8},
    {"row": {"stage": 1, "samples": 30, "wall_s": 1.0}, "digests": {2: "d2"}, "steps": 9},
]


def test_the_result():
    history = [epoch(0, "T.."), epoch(1, "T.."), epoch(2, "FT."), epoch(3, "FFT")]
    scores = {0: {"test_accuracy": 0.5, "test_loss": 2.0}, 2: {"test_accuracy": 0.75, "test_loss": 1.0}}
    table = result_table({"mode": "sequential", "seed": 0}, STAGES, history, scores, num_train=10, wall_s=4.0)
    assert table == {
        "status": "completed", "mode": "sequential", "seed": 0, "num_stages": 2, "num_blocks": 3,
        "epochs": 4, "steps": 9, "wall_s": 4.0, "train_samples_per_s": 10.0,
        "test": {"accuracy": 0.75, "loss": 1.0},
        "blocks": [
            {"block": 0, "stage": 0, "test_accuracy": 0.5, "epochs_trained": 2, "frozen_at_epoch": 2},
            {"block": 1, "stage": 0, "test_accuracy": None, "epochs_trained": 1, "frozen_at_epoch": 3},
            {"block": 2, "stage": 1, "test_accuracy": 0.75, "epochs_trained": 1, "frozen_at_epoch": None},
        ],
        "stages": [stage["row"] for stage in STAGES],
        "weights_sha256": combine(["d0", "d1", "d2"]), "restarts": 0,
    }  # fmt: skip
    assert list(table)[0] == "status"
    assert json.loads(json.dumps(table)) == table


def test_a_result_without_time_or_scores():
    table = result_table({}, STAGES, [epoch(0, "TTT")], {}, num_train=10, wall_s=0.0)
    assert table["train_samples_per_s"] == 0.0
    assert table["test"] == {"accuracy": None, "loss": None}


def test_weights_are_compared_whatever_the_partition():
    merged = [{"row": {"stage": 0, "samples": 40}, "digests": {2: "d2", 0: "d0", 1: "d1"}, "steps": 9}]
    one, two = (result_table({}, stages, [], {}, 10, 1.0)["weights_sha256"] for stages in (merged, STAGES))
    assert one == two


def test_weights_that_differ_between_replicas_are_found():
    def twin(stage, **digests):
        return {"row": {"stage": stage}, "digests": {}, "twins": [(int(k[1:]), d) for k, d in digests.items()]}

    same = [*STAGES, twin(0, b0="d0", b1="d1"), twin(1, b2="d2")]
    assert odd_twins(STAGES) == odd_twins(same) == []
    assert odd_twins([*same, twin(0, b0="d0", b1="x"), twin(1, b2="y")]) == [(0, 1), (1, 2)]
    table = result_table({}, same[:2] + [{**s, "steps": 8} for s in same[2:]], [], {}, 10, 1.0)
    assert table["num_stages"] == 2 and len(table["stages"]) == 4
