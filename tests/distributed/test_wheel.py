"""A wheel, installed into a folder of its own, works from any other folder: the command, the import, the processes."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.distributed
ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "pipeline", "workers", "configs", "launch.py", "onward.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE",
)  # fmt: skip
SCRIPT = """
import sys
import onward
from mynets import small

if __name__ == "__main__":
    config = {"model": {"name": "mynets.small"}, "run": {"stages": 2, "threads": 1, "predict": False},
              "train": {"epochs": 1}, "rule": {"name": "pred"}}
    run = onward.train(config, out="mine", quiet=True)
    network = onward.load(run)
    assert run["num_stages"] == 2 and onward.evaluate(network)["loss"] == run["test"]["loss"]
    small().load_state_dict(network.state_dict())
    print(onward.__file__, network.recipe.config.model.name)
"""
NETS = """
from torch import nn

def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""


def done(*command, cwd, **env):
    words = [str(word) for word in command]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    result = subprocess.run(words, cwd=cwd, env={**clean, **env}, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the wheel is installed to; nothing is fetched, and the checkout is left as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    source, prefix = folder / "source", folder / "prefix"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    done(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, source, cwd=folder)
    (wheel,) = folder.glob("onward_pipeline-*.whl")
    here = ["--prefix", prefix, "--ignore-installed"]
    done(*pip, "install", "--quiet", "--no-deps", "--no-index", *here, wheel, cwd=folder)
    return wheel, prefix


def where(prefix):
    """Python's folder of packages below a prefix, and the environment that finds it first."""
    site = sysconfig.get_path("purelib", vars={"base": str(prefix), "platbase": str(prefix)})
    return {"PYTHONPATH": site, "ONWARD_CACHE": str(prefix / "cache")}


def test_the_wheel_holds_what_is_needed_and_no_other_top_level_name(installed):
    names = zipfile.ZipFile(installed[0]).namelist()
    tops = {name.partition("/")[0] for name in names}
    inside = {top for top in tops if not top.startswith("onward_pipeline-")}
    assert inside == {"pipeline", "workers", "launch.py", "onward.py"}
    assert [n for n in names if n.endswith("share/onward/configs/digits.toml")] != []
    assert "workers/launchers/inline.py" in names and "pipeline/trained/network.py" in names


def test_the_command_works_from_any_folder(installed, tmp_path):
    _, prefix = installed
    (tmp_path / "mynets.py").write_text(NETS)
    command, env = prefix / "bin" / "onward", where(prefix)
    assert "predsim" in done(command, "--list", cwd=tmp_path, **env)
    out = done(command, "model.name=mynets.small", "train.epochs=1", "run.predict=false", "run.threads=1",
               "--stages", "2", cwd=tmp_path, **env)  # fmt: skip
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("digits-") and "done: test accuracy" in out
    assert done(command, "--evaluate", run, cwd=tmp_path, **env).startswith("test accuracy ")
    wrong = subprocess.run([command, "train.epoch=3"], cwd=tmp_path, env={**os.environ, **env}, capture_output=True,
                           text=True, timeout=60)  # fmt: skip
    assert wrong.returncode == 2 and wrong.stderr.startswith("onward: unknown key")


def test_the_import_works_from_any_folder(installed, tmp_path):
    _, prefix = installed
    (tmp_path / "mynets.py").write_text(NETS)
    (tmp_path / "script.py").write_text(SCRIPT)
    out = done(sys.executable, "script.py", cwd=tmp_path, **where(prefix)).split()
    assert Path(out[0]).is_relative_to(prefix) and out[1] == "mynets.small"


def test_a_package_of_the_same_name_is_refused_and_named(installed, tmp_path):
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").write_text("")
    found = subprocess.run(
        [sys.executable, "-c", "import onward"], cwd=tmp_path, env={**os.environ, **where(installed[1])}, text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert found.returncode == 1
    assert f"another package named 'workers' is imported (at {tmp_path / 'workers'}" in found.stderr
