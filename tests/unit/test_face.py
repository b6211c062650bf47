"""The front doors: what ``import pipeline`` and ``import workers`` offer, and what they leave alone."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
import workers

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("package", ["pipeline", "workers"])
def test_importing_a_package_leaves_torch_out(package):
    code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


@pytest.mark.parametrize("package", [pipeline, workers], ids=lambda p: p.__name__)
def test_every_name_is_the_one_of_its_module(package):
    assert package.__all__ == sorted(package.__all__, key=lambda n: (not n[0].isupper(), n))
    for name in package.__all__:
        found = getattr(package, name)
        assert found is getattr(importlib.import_module(found.__module__), name)
        assert name in dir(package)


@pytest.mark.parametrize("package", [pipeline, workers], ids=lambda p: p.__name__)
def test_an_unknown_name_is_told_with_those_there_are(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'Trainer' .expected: .*, "):
        package.Trainer


def test_modules_can_still_be_imported_from_the_packages():
    from pipeline import registry
    from workers import control

    assert registry.known("pipeline.rules") and control.ControlLink


def test_paths_that_the_pages_showed_once_still_lead_to_the_same():
    from pipeline.config import Config
    from pipeline.local_rule import LocalRule, Output
    from pipeline.weights import latest_weights, load_blocks
    from workers.run import train

    faces = [(pipeline, name) for name in ("Config", "LocalRule", "Output", "latest_weights", "load_blocks")]
    shown = [getattr(package, name) for package, name in [*faces, (workers, "train")]]
    assert shown == [Config, LocalRule, Output, latest_weights, load_blocks, train]
