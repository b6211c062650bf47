import pytest
import torch

from pipeline.data.chunking import Chunking
from pipeline.data.chunks import ChunkBatches, chunked, cut
from pipeline.data.dataset import ArrayDataset, DataSpec, Split
from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.task import Classification
from pipeline.data.windows import feed_of
from pipeline.errors import ConfigError

WHOLE = DataSpec((6, 1), Regression(2, (6,)), 8, 4)


def feed(train=True, batch_size=4):
    spec = chunked(WHOLE, 2, "toy")
    x = torch.arange(48.0).view(8, 6, 1)
    split = cut((Split(x, x.repeat(1, 1, 2)), Split(x[:4], x[:4].repeat(1, 1, 2))), 2)[0 if train else 1]
    data = ArrayDataset("toy", spec, lambda: None)
    return feed_of(split, dataset=data, batch_size=batch_size, seed=0, device="cpu", train=train)


def test_each_row_goes_on_where_it_ended_in_the_batch_before():
    found = feed()
    assert isinstance(found, ChunkBatches) and found.num_batches == 6
    for epoch in range(2):
        seen, before = [], None
        for index in range(6):
            x, y = found.batch(epoch, index)
            assert x.shape == (4, 2, 1) and torch.equal(y, x.repeat(1, 1, 2))
            if index % 3:
                assert torch.equal(x[:, 0], before[:, 1] + 1)
            else:
                assert (x[:, 0] % 6 == 0).all()
                seen += x[:, 0, 0].tolist()
            before = x
        assert sorted(seen) == [0.0, 6.0, 12.0, 18.0, 24.0, 30.0, 36.0, 42.0]


def test_training_takes_sequences_in_another_order_each_epoch_and_evaluation_never():
    starts = [feed().batch(epoch, 0)[0][:, 0, 0].tolist() for epoch in range(3)]
    assert starts[0] == feed().batch(0, 0)[0][:, 0, 0].tolist() and len(set(map(tuple, starts))) == 3
    test = feed(train=False, batch_size=2)
    assert [test.batch(k, 0)[0][:, 0, 0].tolist() for k in range(2)] == [[0.0, 6.0]] * 2


def test_starts_are_those_of_sequences():
    assert [Chunking(3).is_start(k) for k in range(7)] == [True, False, False] * 2 + [True]
    assert [Chunking(0).is_start(k) for k in range(3)] == [True, False, False]


@pytest.mark.parametrize(("num_samples", "batch_size"), [(12, 4), (14, 4), (5, 4), (4, 4), (9, 1)])
def test_one_sequence_is_cut_into_rows_that_go_on(num_samples, batch_size):
    order = Chunking(0).order(torch.arange(1), num_samples, batch_size)
    assert sorted(order.tolist()) == list(range(num_samples))
    batches = order.split(batch_size)
    assert [len(b) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    for before, after in zip(batches, batches[1:]):
        assert torch.equal(after, before[: len(after)] + 1)


def test_tasks_of_chunks_have_the_positions_of_a_chunk():
    spec = chunked(WHOLE, 3, "toy")
    assert (spec.input_shape, spec.task.positions, spec.num_train, spec.num_test) == ((3, 1), (3,), 16, 8)
    classes = DataSpec((6,), PositionClasses(5, (6,)), 8, 4, input_dtype=torch.int64, num_tokens=5)
    assert chunked(classes, 2, "toy").task.out_shape == (2, 5)
    assert chunked(WHOLE, 0, "toy") is WHOLE


@pytest.mark.parametrize(
    ("spec", "expected"),
    [(WHOLE, "4 for 6 steps and a label at each, expected: a divisor of 6"),
     (DataSpec((8, 1), Classification(3), 8, 4), "4 for 8 steps and one label, expected: a divisor of 8")],
)  # fmt: skip
def test_what_cannot_be_cut_is_refused(spec, expected):
    with pytest.raises(ConfigError, match=r"sequences of toy cannot be cut like this \(given: dataset.chunk = ") as e:
        chunked(spec, 4, "toy")
    assert expected in str(e.value)
