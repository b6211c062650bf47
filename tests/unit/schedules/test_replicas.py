from pipeline.schedules.replicas import Replicas


def test_processes_are_numbered_stage_by_stage():
    replicas = Replicas((1, 2, 3))
    places = [replicas.place(p) for p in range(replicas.num_processes)]
    assert places == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]
    assert [list(replicas.group(s)) for s in range(3)] == [[0], [1, 2], [3, 4, 5]]
    assert replicas.num_stages == 3 and not replicas.is_single and replicas.divisor == 6


def test_micro_batches_are_dealt_in_turn():
    replicas = Replicas((1, 2, 3))
    dealt = [[replicas.process(s, m) for m in range(6)] for s in range(3)]
    assert dealt == [[0] * 6, [1, 2] * 3, [3, 4, 5] * 2]


def test_with_one_process_each_numbers_are_those_of_the_stages():
    single = Replicas.single(3)
    assert [single.process(s, m) for s in range(3) for m in (0, 5)] == [0, 0, 1, 1, 2, 2]
    assert single.is_single and single.divisor == 1 and single.name(1) == "stage 1/3"


def test_names():
    names = [Replicas((1, 2)).name(p) for p in range(3)]
    assert names == ["stage 0/2", "stage 1/2, replica 0/2", "stage 1/2, replica 1/2"]
