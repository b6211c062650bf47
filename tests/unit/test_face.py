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
