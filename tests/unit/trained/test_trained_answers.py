"""Answers about files, and files that there is nothing to answer about."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support import resumes, runs
from torch import nn

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


def test_a_picture_is_turned_as_its_camera_was(tmp_path):
    facts = NetworkFacts((3, 4, 6), None, None)
    network = SimpleNamespace(recipe=SimpleNamespace(facts=facts))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    expected = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1)[None]
    found = read_samples(network, tmp_path / "turned.png").mul(255).round()
    assert torch.equal(found, expected.float())
    image.save(tmp_path / "upright.png")
    with pytest.raises(ConfigError, match=r"other samples than .* shape \(3, 6, 4\), expected: \(3, 4, 6\)"):
        read_samples(network, tmp_path / "upright.png")


def test_a_network_of_other_numbers_answers_in_these(network, tmp_path):
    picture(tmp_path / "one.png")
    (expected,) = answers(network, [tmp_path / "one.png"])
    (found,) = answers(network.double(), [tmp_path / "one.png"])
    assert found.label == expected.label and found.probability == pytest.approx(expected.probability, rel=1e-4)


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


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_picture_of_more_bits_is_refused(network, tmp_path, mode):
    Image.new(mode, (6, 6)).save(tmp_path / "deep.tiff")
    refused(network, tmp_path / "deep.tiff", f"the picture is not clear .*more than 8 bits a pixel, mode {mode}")


def test_a_picture_is_opaque_or_refused(network, tmp_path):
    pixels = picture(tmp_path / "grey.png")
    for alpha, name in ((255, "opaque.png"), (254, "clear.png")):
        image = Image.fromarray(pixels).convert("RGBA")
        image.putalpha(alpha)
        image.save(tmp_path / name)
    assert torch.equal(read_samples(network, tmp_path / "opaque.png"), read_samples(network, tmp_path / "grey.png"))
    refused(network, tmp_path / "clear.png", "the picture is not clear .*transparent pixels; expected: opaque")


def test_a_picture_that_is_a_program_is_not_run(network, tmp_path):
    picture(tmp_path / "one.png")
    Image.open(tmp_path / "one.png").save(tmp_path / "one.eps")
    refused(network, tmp_path / "one.eps", "cannot read the file .*cannot identify image file")


def test_numbers_that_may_mean_either_are_refused(network, tmp_path):
    x = np.zeros((1, 1, 6, 6))
    refused(network, arrays(tmp_path / "whole.npz", x=x.astype(np.int64)), "whole numbers may be .*int64; expected: ui")
    refused(network, arrays(tmp_path / "complex.npz", x=x + 1j), "cannot read the file .*complex numbers")
    assert read_samples(network, arrays(tmp_path / "bits.npz", x=x.astype(bool))).dtype == torch.float32


def test_a_network_of_vectors_takes_no_pictures(tmp_path):
    runs.run(tmp_path / "run", {"dataset": {"name": "signed_xor"}, "rule": {"name": "pred"}, "train": {"epochs": 1}},
             base=resumes.TINY)  # fmt: skip
    picture(tmp_path / "one.png")
    refused(load(tmp_path / "run"), tmp_path / "one.png", r"the network takes no pictures .* samples of shape \(2,\)")


def test_a_network_of_numbers_names_no_class(tmp_path):
    data = {"name": "sine", "length": 12, "num_train": 20, "num_test": 6}
    changes = {"dataset": data, "model": {"name": "rnn", "depth": 2, "width": 6}, "rule": {"name": "pred"}}
    runs.run(tmp_path / "run", changes, base=resumes.TINY)
    text = r"names no class of a sample \(given: one that has learned labels which are floating-point numbers, expected"
    with pytest.raises(ConfigError, match=text):
        list(answers(load(tmp_path / "run"), [arrays(tmp_path / "a.npz", x=np.zeros((2, 12, 1)))]))


@pytest.fixture(scope="module")
def token_run(tmp_path_factory):
    """A classifier of four whole numbers, 0 to 4."""
    folder, draw = tmp_path_factory.mktemp("tokens"), np.random.default_rng(2)
    for split, count in (("train", 20), ("test", 6)):
        np.save(folder / f"x_{split}.npy", draw.integers(0, 5, (count, 4)))
        np.save(folder / f"y_{split}.npy", np.arange(count) % 3)
    changes = {
        "dataset": {"name": "mapped", "path": str(folder), "num_tokens": 5}, "rule": {"name": "pred"},
        "model": {"name": "object"}, "train": {"epochs": 1},
    }  # fmt: skip
    model = [nn.Sequential(nn.Embedding(5, 3), nn.Flatten()), nn.Linear(12, 3)]
    runs.run(folder / "run", changes, base=resumes.TINY, model=model)
    return folder / "run"


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_tokens_are_whole_numbers_and_go_in_as_they_are(token_run, tmp_path, dtype):
    network = load(token_run)
    x = np.array([[0, 1, 2, 3], [4, 4, 0, 1]])
    found = list(answers(network, [arrays(tmp_path / "x.npz", x=x.astype(dtype))]))
    chances = network(torch.from_numpy(x)).softmax(1)
    assert [a.label for a in found] == chances.argmax(1).tolist()
    assert [a.probability for a in found] == pytest.approx(chances.amax(1).tolist(), rel=1e-5)


def test_what_is_no_token_is_refused(token_run, tmp_path):
    network, x = load(token_run), np.array([[0, 1, 2, 3], [4, 4, 0, 1]])
    text = "the network takes tokens .*float64; expected: whole numbers"
    refused(network, arrays(tmp_path / "floats.npz", x=x.astype(np.float64)), text)
    refused(network, arrays(tmp_path / "bools.npz", x=x > 1), "the network takes tokens .*bool")
    for wrong in (5, -1, 300):
        x[1, 0] = wrong
        text = rf"there is no such token \(given: .*x.npz, .*{wrong}.*; expected: 0 to 4\)"
        refused(network, arrays(tmp_path / "x.npz", x=x), text)
    refused(network, arrays(tmp_path / "large.npz", x=x.astype(np.uint64) + 2**63), "there is no such token")


def test_a_run_that_does_not_say_how_many_tokens_there_are(token_run, tmp_path):
    """Of an earlier version: its network is what finds that there is no such token."""
    network = load(token_run)
    facts = replace(network.recipe.facts, num_tokens=0)
    object.__setattr__(network.recipe, "facts", facts)
    x = np.array([[0, 1, 2, 5]])
    refused(network, arrays(tmp_path / "x.npz", x=x), "the network does not take these tokens .*x.npz, .*out of range")
    refused(network, arrays(tmp_path / "y.npz", x=-x), "there is no such token .*-5; expected: from 0")


@pytest.mark.parametrize(("has_pixels", "scale"), [(True, 1 / 255), (False, 1)])
def test_bytes_of_vectors_are_what_the_run_has_learned_from(tmp_path, has_pixels, scale):
    x = np.random.default_rng(3).integers(0, 256, (20, 4), dtype=np.uint8)
    given, y = x if has_pixels else x.astype(np.float32), np.arange(20) % 3
    np.savez(tmp_path / "data.npz", x_train=given, y_train=y, x_test=given, y_test=y)
    changes = {"dataset": {"name": "npz", "path": str(tmp_path / "data.npz")}, "train": {"epochs": 1}}
    runs.run(tmp_path / "run", changes, base=resumes.TINY)
    network = load(tmp_path / "run")
    found = read_samples(network, arrays(tmp_path / "x.npz", x=x))
    assert torch.equal(found, torch.from_numpy(x).float() * torch.tensor(scale))
    object.__setattr__(network.recipe, "facts", replace(network.recipe.facts, has_pixels=None))
    refused(network, tmp_path / "x.npz", "bytes may be pixels, or numbers as they are .*x.npz, uint8, .*divided by 255")
