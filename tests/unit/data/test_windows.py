import pytest
import torch

from pipeline.data import windows
from pipeline.data.batches import Batches
from pipeline.data.dataset import ArrayDataset, DataSpec, Split
from pipeline.data.position_tasks import PositionClasses
from pipeline.data.synthetic import random_inputs, random_labels
from pipeline.data.windows import Stream, Windows, feed_of

TEXT = torch.randint(256, (101,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SPEC = DataSpec((8,), PositionClasses(256, (8,)), 10, 3, input_dtype=torch.int64, num_tokens=256)
DATA = ArrayDataset("toy", SPEC, lambda: None)


def feed(seed=0, batch_size=4, window=8, num_windows=10, train=True):
    stream = Stream(TEXT[:-1], TEXT[1:], window, num_windows)
    return feed_of(stream, dataset=DATA, batch_size=batch_size, seed=seed, device="cpu", train=train)


def places(x):
    """Where each window lies in the text."""
    return [[k for k in range(93) if torch.equal(TEXT[k : k + 8].long(), row)] for row in x]


def test_windows_are_of_the_stream_and_labels_are_behind_them():
    found = feed()
    assert isinstance(found, Windows) and (found.num_samples, found.num_batches) == (10, 3)
    for index, size in enumerate([4, 4, 2]):
        x, y = found.batch(0, index)
        assert x.shape == y.shape == (size, 8) and x.dtype == torch.int64 and y.dtype == torch.uint8
        for row, labels, (place,) in zip(x, y, places(x), strict=True):
            assert torch.equal(row[1:], labels[:-1].long()) and labels[-1] == TEXT[place + 8]


def test_windows_are_a_function_of_seed_epoch_and_step():
    first, again = feed(), feed()
    again.batch(3, 1)  # whatever was asked for before
    assert torch.equal(first.batch(2, 1)[0], again.batch(2, 1)[0])
    others = [first.batch(2, 0)[0], first.batch(1, 1)[0], feed(seed=1).batch(2, 1)[0]]
    assert not any(torch.equal(first.batch(2, 1)[0], x) for x in others)


def test_every_place_is_drawn_up_to_the_last():
    wide = feed(batch_size=2000, num_windows=2000)
    drawn = {place for (place,) in places(wide.batch(0, 0)[0])}
    assert drawn == set(range(93))


def test_a_stream_as_long_as_its_window_has_one_place():
    x, y = feed(window=100).batch(0, 0)
    assert torch.equal(x, TEXT[:-1].long().expand(4, 100)) and torch.equal(y, TEXT[1:].expand(4, 100))


def test_there_are_no_more_batches_than_the_epoch_has():
    with pytest.raises(IndexError, match=r"no such batch \(given: 3, expected: 0 to 2\)"):
        feed().batch(0, 3)


def test_an_ordinary_split_keeps_its_order_and_its_tokens_are_not_pixels():
    split = Split(TEXT[:96].view(12, 8), TEXT[1:97].view(12, 8))
    found = feed_of(split, dataset=DATA, batch_size=5, seed=0, device="cpu", train=False)
    assert type(found) is Batches
    x, y = found.batch(0, 2)
    assert torch.equal(x, TEXT[80:96].view(2, 8).long()) and torch.equal(y, TEXT[81:97].view(2, 8))


def test_random_samples_have_the_form_of_the_data():
    generator = torch.Generator().manual_seed(0)
    x, y = random_inputs(SPEC, 50, generator), random_labels(SPEC.task, 50, generator)
    assert x.shape == y.shape == (50, 8) and (x.dtype, y.dtype) == (torch.int64, torch.uint8)
    assert 0 <= x.min() < 10 and 245 < x.max() < 256


@pytest.mark.parametrize("on_device", [False, True])
def test_windows_gathered_on_the_host_are_pinned_on_their_way_to_a_gpu(monkeypatch, on_device):
    """Only where the stream does not fit on the device."""
    uploaded = []
    monkeypatch.setattr(windows, "upload", lambda x, device: uploaded.append(device) or x)
    found = feed()
    found._x = found._x if on_device else TEXT[:-1].to("meta")
    x, _ = found.batch(0, 0)
    assert x.shape == (4, 8) and uploaded == ([] if on_device else [torch.device("cpu")])
