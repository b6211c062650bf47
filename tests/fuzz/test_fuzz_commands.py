"""Command lines: each goes as far as a run would begin, or ends with exit status 2 and no traceback."""

import contextlib
import io

import launch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

USUAL, FULL = 30, 500
FLAGS = [
    "--config", "--mode", "--stages", "--transport", "--device", "--out", "--resume", "--data-root", "--trace",
    "--quiet", "--list", "--help", "-h", "--", "-", "--epochs", "--stage", "-x", "--out=", "--stages=2",
    "--evaluate", "--predict", "--against", "--repeat", "--log", "--log=csv", "--allow-changes", "--generate=3",
]  # fmt: skip
WORDS = [
    "", "2", "-1", "blocks", "parallel", "pipedream", "cpu", "cuda", "train.epochs=3", "train.epochs=", "=", "=3",
    ".=1", "a.b.c=1", "train=3", "seed=1", "seed.x=1", "rule.name=dfa", "rule=dfa", "model.width=[", "/", "/dev/null",
    "\udc80", "a=" + "{" * 400, "seed=" + "1" * 6000, "run.timeout_s=nan", "dataset.name=..", "snapshot.keep=0",
    "x" * 5000,
]  # fmt: skip
ARGUMENTS = st.lists(
    st.one_of(st.sampled_from(FLAGS), st.sampled_from(WORDS),
              st.text(st.characters(exclude_characters="\0"), max_size=12)), max_size=6,
)  # fmt: skip


@pytest.fixture
def no_run(monkeypatch):
    monkeypatch.setattr(launch, "run", lambda options, loaded: None)
    monkeypatch.setattr("workers.comparison.command.compare_modes", lambda *_, **__: None)


def test_a_command_line_begins_a_run_or_ends_with_2(request, no_run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    codes = set()

    @settings(
        max_examples=FULL if request.config.getoption("--full") else USUAL, derandomize=True, deadline=None,
        database=None, suppress_health_check=list(HealthCheck),
    )
    @given(ARGUMENTS)
    def check(arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = launch.main(arguments)
            except SystemExit as end:  # of the parser
                code = end.code
            assert code == 0 or (err.getvalue().startswith("launch.py: ") and err.getvalue().count("\n") == 1)
        codes.add(code)
        assert code in (0, 2), err.getvalue()

    check()
    assert codes == {0, 2}
