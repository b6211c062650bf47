"""What the FAQ tells people to type is understood, and the names that it uses are there."""

import re
import shlex
from pathlib import Path

import launch
import onward
import pytest
from tests.support.command import call

from pipeline.config import Config
from pipeline.places import default_config
from pipeline.resolve import resolve
from workers.flags import check_together

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faq.md").read_text(encoding="utf8")
QUESTIONS = re.split(r"^## ", PAGE, flags=re.M)[1:]
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
OF_LAUNCH = [line for line in COMMANDS if "launch.py" in line]


@pytest.mark.parametrize("command", OF_LAUNCH)
def test_a_command_is_understood(command):
    words = shlex.split(command)
    options = launch.parse(words[words.index("launch.py") + 1 :])
    check_together(options)
    if options.resume is None and options.evaluate is None and options.predict is None:
        config = launch.load_config(launch.config_of(options), launch.overrides_of(options)).config
        assert resolve(config, Path("nowhere")).num_blocks > 1


def test_every_other_command_is_an_example():
    others = [shlex.split(line) for line in COMMANDS if line not in OF_LAUNCH]
    assert others != [] and all(words[0] == "python" and (ROOT / words[1]).is_file() for words in others)


def test_every_question_is_answered_by_a_command_or_a_page():
    assert len(QUESTIONS) >= 12
    for question in QUESTIONS:
        assert question.partition("\n")[0].endswith("?") or "nan" in question
        assert "```" in question or "](" in question, question


def test_names_of_the_front_are_there():
    named = set(re.findall(r"\bonward\.(\w+)", PAGE))
    assert {"load", "Run", "Stop"} <= named <= set(onward.__all__)


def test_keys_are_there():
    named = set(re.findall(r"`((?:train|run|schedule|transport|snapshot)\.\w+)`", PAGE))
    table = Config.from_dict({}).to_dict()
    assert [key for key in named if key.partition(".")[2] not in table[key.partition(".")[0]]] == []


def test_what_is_said_of_a_run_in_its_folder_is_done(tmp_path):
    """From a run with its accuracies to a run that goes on on other stages; the settings are those of a small one."""
    small = ["--config", default_config(), "model.width=8", "train.epochs=1", "run.predict=false", "run.threads=1"]
    watched = ["--log", "csv", "snapshot.every_epochs=1", "--transport", "inline", "--stages", "1", "--quiet"]
    assert call(*small, *watched, "--out", tmp_path / "mine")[::2] == (0, "")
    code, out, err = call("--evaluate", tmp_path / "mine")
    assert (code, err) == (0, "") and "blocks 0-3: " in out
    run = onward.Run(tmp_path / "mine")
    assert all(block["test_accuracy"] > 0 for block in run["blocks"])
    assert onward.load(run).readout(0) is not None
    assert "test_accuracy/block0" in (run.folder / "metrics.csv").read_text()
    code, _, err = call("--resume", run.folder, "train.epochs=2", "--allow-changes", "--stages", "2", "--out",
                        tmp_path / "elsewhere", "--quiet")  # fmt: skip
    assert (code, err) == (0, "") and onward.Run(tmp_path / "elsewhere")["epochs"] == 2
