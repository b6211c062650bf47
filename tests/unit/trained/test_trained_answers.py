"""Answers about files, and files that there is nothing to answer about."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support import resumes, runs

from pipeline.data.dataset import Normalisation
from pipeline.errors import ConfigError
from pipeline.records.network_facts import NetworkFacts
from pipeline.trained.answers import answers, read_samples
from pipeline.trained.build import load
from pipeline.trained.lines import answer_line


@pytest.fixture
def network(trained_run):
    return load(trained_run)


def picture(path, shape=(6, 6)):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def arrays(path, **named):
    np.savez(path, **named)
    return path


def test_pictures_and_arrays_in_their_order(network, tmp_path):
    pixels = picture(tmp_path / "one.png")
    x = np.random.default_rng(1).random((3, 1, 6, 6))
    found = list(answers(network, [arrays(tmp_path / "some.npz", x=x, y=np.arange(3)), tmp_path / "one.png"]))
    assert [a.name for a in found] == [*(f"{tmp_path}/some.npz[{k}]" for k in range(3)), f"{tmp_path}/one.png"]
    every = torch.cat([torch.from_numpy(x).float(), torch.from_numpy(pixels / np.float32(255))[None, None]])
    chances = network(every).softmax(1)
    assert [a.label for a in found] == chances.argmax(1).tolist()
    assert [a.probability for a in found] == pytest.approx(chances.amax(1).tolist(), rel=1e-5)
    assert answer_line(found[3]) == f"{tmp_path}/one.png\tclass {found[3].label}\t{100 * found[3].probability:.2f} %"


def test_an_array_alone_may_have_any_name_and_bytes_are_pixels(network, tmp_path):
    pixels = picture(tmp_path / "one.png")
    path = arrays(tmp_path / "some.npz", images=pixels[None, None])
    assert torch.equal(read_samples(network, path), read_samples(network, tmp_path / "one.png"))


def test_samples_are_normalised_as_the_data_set_is(network, tmp_path):
    pixels = picture(tmp_path / "one.png")
    facts = network.recipe.facts
    scaled = NetworkFacts(facts.input_shape, facts.task, Normalisation((0.25,), (0.5,)))
    object.__setattr__(network.recipe, "facts", scaled)
    expected = (torch.from_numpy(pixels)[None, None].double() / 255 - 0.25) / 0.5
    assert torch.allclose(read_samples(network, tmp_path / "one.png").double(), expected, atol=1e-6)


@pytest.mark.parametrize("loss", ["logistic", "binary"])
def test_other_tasks_have_the_probability_of_a_logistic_unit(tmp_path, loss):
    changes = {"dataset": {"name": "signed_xor"}} if loss == "binary" else {"train": {"loss": loss}}
    base = runs.merged(resumes.TINY, {"train": {"epochs": 1}, "rule": {"name": "pred"}})
    runs.run(tmp_path / "run", changes, base=base)
    network = load(tmp_path / "run")
    x = torch.rand(9, *network.recipe.facts.input_shape) - 0.5
    found = list(answers(network, [arrays(tmp_path / "x.npz", x=x.numpy())]))
    chances = network(x).sigmoid().detach()
    if loss == "binary":
        chances = torch.cat([1 - chances, chances], 1)
    assert [a.label for a in found] == chances.argmax(1).tolist()
    assert [a.probability for a in found] == pytest.approx(chances.amax(1).tolist(), rel=1e-5)


def refused(network, path, text):
    with pytest.raises(ConfigError, match=text) as caught:
        list(answers(network, [path]))
    assert "\n" not in str(caught.value)


def test_files_that_are_refused(network, tmp_path):
    refused(network, tmp_path / "none.png", "there is no such file .given: .*none.png")
    refused(network, tmp_path, "there is no such file")
    refused(network, tmp_path / ("y" * 300), "there is no such file")
    picture(tmp_path / "large.png", (7, 6))
    refused(network, tmp_path / "large.png", r"other samples than .* shape \(1, 7, 6\), .*\(1, 6, 6\)")
    (tmp_path / "text.png").write_text("hello")
    refused(network, tmp_path / "text.png", "cannot read the file .* expected: a picture or an .npz")
    (tmp_path / "text.npz").write_text("hello")
    refused(network, tmp_path / "text.npz", "cannot read the file .* an .npz with an array 'x' of numbers")
    refused(network, arrays(tmp_path / "two.npz", a=np.ones(2), b=np.ones(2)), "cannot read the file .*x is not a file")
    refused(network, arrays(tmp_path / "words.npz", x=np.array(["a", "b"])), "cannot read the file")
    refused(network, arrays(tmp_path / "objects.npz", x=np.array([None, 1])), "cannot read the file .*pickle")
    refused(network, arrays(tmp_path / "flat.npz", x=np.ones((2, 36))), r"other samples .*shape \(36,\)")
    refused(network, arrays(tmp_path / "nan.npz", x=np.full((1, 1, 6, 6), np.nan)), "a number is nan or infinite")


def test_a_network_of_vectors_takes_no_pictures(tmp_path):
    runs.run(tmp_path / "run", {"dataset": {"name": "signed_xor"}, "rule": {"name": "pred"}, "train": {"epochs": 1}},
             base=resumes.TINY)  # fmt: skip
    picture(tmp_path / "one.png")
    refused(load(tmp_path / "run"), tmp_path / "one.png", r"the network takes no pictures .* samples of shape \(2,\)")
