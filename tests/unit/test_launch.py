"""The command line, in this process."""

import importlib
import subprocess
import sys
from pathlib import Path

import launch
import pytest

from pipeline.errors import ConfigError


def test_flags_are_overrides_and_written_overrides_come_last():
    options = launch.parse(["--mode", "gpipe", "train.epochs=3", "--stages", "2", "--device", "cpu", "run.stages=3"])
    assert launch.overrides_of(options) == [
        "schedule.mode=gpipe", "run.stages=2", "run.device=cpu", "train.epochs=3", "run.stages=3",
    ]  # fmt: skip


def test_a_trace_is_written_where_it_is_asked_for():
    assert launch.overrides_of(launch.parse(["--trace"])) == ["run.trace=true"]
    assert launch.overrides_of(launch.parse([])) == []


def test_the_default_config_is_the_one_beside_the_launcher():
    assert launch.config_of(launch.parse([])) == launch.HERE / "configs" / "digits.toml"


def test_a_run_that_is_resumed_brings_its_own_config(tmp_path):
    (tmp_path / "config.toml").write_text("seed = 1")
    assert launch.config_of(launch.parse(["--resume", str(tmp_path)])) == tmp_path / "config.toml"
    assert launch.config_of(launch.parse(["--resume", str(tmp_path), "--config", "x.toml"])) == Path("x.toml")
    with pytest.raises(ConfigError, match="no run to resume .given: --resume .*none, expected: a folder that --out"):
        launch.config_of(launch.parse(["--resume", str(tmp_path / "none")]))


def test_the_list_names_everything_with_a_line_each(capsys):
    assert launch.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("predsim", "mlp", "digits", "shared_memory", "wandb"):
        assert [line for line in lines if line.split()[:1] == [name] and len(line.split()) > 3] != [], name


def test_the_list_says_what_every_option_takes(capsys):
    assert launch.main(["--list"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "rule.beta a number, at least 0, at most 1; default: 0.99",
        "dataset.validation a number, at least 0, below 1; default: 0.0",
        "dataset.image_size a whole number, at least 1, at most 16384; required",
        "optimizer.betas a list in which each is a number, at least 0, below 1; default: (0.9, 0.999)",
        "run.start_timeout_s a number, above 0, at most 1e6; default: 3000.0",
        "model.width a whole number, at least 1, at most 2147483647 or a list in which each is a whole number, "
        "at least 1, at most 2147483647; default: 256",
    ):
        assert line in lines


@pytest.mark.parametrize("name", ["pipeline", "workers"])
def test_another_package_of_that_name_is_refused_in_one_line(tmp_path, name):
    for other in ("pipeline", "workers"):  # which lacks all that is imported from it
        (tmp_path / other).mkdir()
        (tmp_path / other / "__init__.py").touch()
    ours = "" if name == "pipeline" else "import pipeline"
    code = f"import sys\nsys.path[:0] = [{str(launch.HERE)!r}]\n{ours}\nsys.path[:0] = [{str(tmp_path)!r}]\n"
    code += "import launch"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"another package named {name!r} is imported (at {tmp_path.resolve()}, expected: " in done.stderr


def test_a_package_without_a_file_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(launch.workers, "__file__", None)
    with pytest.raises(SystemExit, match="2"):
        importlib.reload(launch)
    assert "another package named 'workers' is imported" in capsys.readouterr().err


def test_a_run_without_a_name_is_beside_the_checkout_or_where_the_user_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["launch.py"])
    assert launch.runs_folder() == launch.HERE / "runs"
    monkeypatch.setattr(launch, "HERE", tmp_path / "site-packages")
    assert launch.runs_folder() == tmp_path / "runs"


@pytest.mark.parametrize("name", sorted(p.name for p in (launch.HERE / "configs").glob("*.toml")))
def test_every_config_is_valid_as_far_as_its_sections_go(name):
    loaded = launch.load_config(launch.HERE / "configs" / name)
    assert loaded.name == Path(name).stem and loaded.config.train.epochs > 0


def test_a_mistake_is_one_line_on_standard_error(capsys):
    assert launch.main(["train.epoch=3"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("launch.py: unknown key") and err.count("\n") == 1


def test_importing_the_launcher_does_not_import_torch():
    """The fork server starts while this process still imports: nothing heavy may come before."""
    import subprocess

    code = "import sys, launch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=launch.HERE, check=False).returncode == 0


def test_a_warning_of_the_last_moment_is_written():
    """Though the thread that writes is slow, and the process ends as a rank or a child does: at once."""
    program = (
        "import logging, os, time, launch\n"
        "from workers.host import streams\n"
        "write = streams._write_all\n"
        "streams._write_all = lambda *given: (time.sleep(0.3), write(*given))\n"
        "launch.start = lambda options: lambda *given: logging.warning('the last word')\n"
        "os._exit(launch.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=launch.HERE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "the last word\n")
