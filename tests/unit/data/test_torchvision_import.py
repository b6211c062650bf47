"""A torchvision built for another torch is imported all the same."""

import sys
import types

import pytest

from pipeline.data import torchvision_import
from pipeline.data.torchvision_import import torchvision_datasets
from pipeline.errors import ConfigError


class Importer:
    """Fails with each of ``errors`` in turn, leaving a half-executed module behind, then succeeds."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.partial = []

    def __call__(self, name):
        self.partial.append("torchvision.half" in sys.modules)
        if self.errors:
            sys.modules["torchvision.half"] = types.ModuleType("torchvision.half")
            raise self.errors.pop(0)
        return "datasets"


@pytest.fixture
def importer(monkeypatch):
    def install(*errors):
        found = Importer(*errors)
        monkeypatch.setattr(torchvision_import.importlib, "import_module", found)
        monkeypatch.setattr(torchvision_import, "_declare_operators", lambda: declared.append(1))
        return found

    declared = []
    install.declared = declared
    yield install
    sys.modules.pop("torchvision.half", None)


def test_the_real_one_has_the_data_sets():
    names = {"MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN", "STL10"}
    assert names <= set(dir(torchvision_datasets()))


def test_a_working_torchvision_is_left_alone(importer):
    importer()
    assert torchvision_datasets() == "datasets"
    assert importer.declared == []


def test_missing_operators_are_declared_and_the_import_begins_anew(importer):
    found = importer(RuntimeError("operator torchvision::nms does not exist"))
    assert torchvision_datasets() == "datasets"
    assert importer.declared == [1]
    assert found.partial == [False, False]


@pytest.mark.parametrize("error", [ImportError("no module named torchvision"), RuntimeError("broken\nin half")])
def test_other_failures_say_what_to_do(importer, error):
    importer(error)
    reason = " ".join(str(error).split())
    with pytest.raises(ConfigError, match=rf"cannot import torchvision \({reason}\). Install the one that belongs"):
        torchvision_datasets()
    assert importer.declared == []


def test_a_failure_after_the_declaration_says_what_to_do(importer):
    importer(RuntimeError("operator torchvision::nms does not exist"), RuntimeError("another operator"))
    with pytest.raises(ConfigError, match=r"cannot import torchvision \(another operator\)"):
        torchvision_datasets()
