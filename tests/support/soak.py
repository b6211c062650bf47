"""Kills random processes of runs at random moments, takes the runs up again, and compares what they have learned.

    python -m tests.support.soak --kills 100 --terms 50 --seed 0

Every run is killed a few times: a stage, the fork server, or the parent; under torchrun a rank, which torchrun starts
again. Half of the resumes are on another number of stages. What is left is one table: for each kind of run the kills,
and whether the weights are those of the undisturbed run. Then runs are told to end (SIGTERM) at random moments of
their last second: what has its weights declared complete must end as completed, and nothing else may. Ends with status
1 where one is not so, or a process is left.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from tests.support.command import ROOT, TORCHRUN, left_of

LIMIT_S = 240.0
LAST_EPOCHS = 9
"""Epochs after which runs that are to be told to end are in their last second."""
COMMON = ["run.threads=1", "run.predict=false", "run.partition=parameters", "snapshot.keep=2", "--quiet"]
STEPS, EPOCHS = ["snapshot.every_steps=7"], ["snapshot.every_epochs=1"]
KINDS = {
    "predsim": [*STEPS, "train.epochs=25"],
    "sequential": [*STEPS, "--mode", "sequential", "train.epochs=8", "schedule.patience=6", "dataset.crop_padding=0"],
    "fa": [*STEPS, "rule.name=fa", "train.epochs=25"],
    "fa, 3 in flight": [*EPOCHS, "rule.name=fa", "train.in_flight=3", "train.epochs=25"],
    "dfa": [*STEPS, "rule.name=dfa", "train.epochs=25"],
    "dfa, 3 in flight": [*EPOCHS, "rule.name=dfa", "train.in_flight=3", "train.epochs=25"],
    "gpipe": [*STEPS, "--mode", "gpipe", "train.epochs=25"],
}
VICTIMS = ("stage", "stage", "parent", "fork server")


def command(arguments, out, *, stages, resume):
    """A run's command."""
    where = ["--resume", str(out)] if resume else ["--out", str(out)]
    mine = [a for a in arguments if not resume] or ["--quiet"]
    return [sys.executable, str(ROOT / "launch.py"), *where, *mine, "--stages", str(stages)]


def start(words):
    """A process in a session of its own, its output in a file that is read when something is wrong."""
    log = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    return process, log


def finish(process, log):
    """Exit status and output, once no process of its session is left."""
    try:
        process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError("a run did not end in time") from None
    left = left_of(process.pid, within=5.0)
    for other in left:
        with suppress(psutil.NoSuchProcess):
            other.kill()
    log.seek(0)
    text = log.read()
    assert left == [], f"processes are left behind: {left}\n{text}"
    return process.returncode, text


def victim(pid, kind):
    """The process to kill: of the kind, if there is one by now, else the parent."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        servers = [p for p in parent.children() if "forkserver" in " ".join(p.cmdline())]
        stages = [p for server in servers for p in server.children()]
        if kind == "stage" and stages:
            return random.choice(stages)
        if kind == "fork server" and servers:
            return servers[0]
        return parent
    return None


def disturbed(arguments, out, kills, duration_s):
    """A run that is killed up to so many times; how often, of what kind, and its weights."""
    stages, done, resume = 2, Counter(), False
    for attempt in range(kills + 1):
        process, log = start(command(arguments, out, stages=stages, resume=resume))
        if attempt < kills:
            with suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.2, duration_s))
            kind = random.choice(VICTIMS)
            target = victim(process.pid, kind) if process.poll() is None else None
            if target is not None:
                with suppress(psutil.NoSuchProcess):
                    target.kill()
                    done["parent" if target.pid == process.pid else kind] += 1
        code, text = finish(process, log)
        if code == 0 or is_complete(out):
            break
        assert attempt < kills, f"a run that nobody disturbed ended with status {code}:\n{text}"
        resume = (out / "config.toml").exists() and (out / "record.jsonl").exists()
        if not resume and out.exists():
            out = out.with_name(out.name + "-")
        stages = random.choice([2, 2, 1, 3])
    return done, result(out)


def is_complete(out):
    """It has its result, though something was killed after that."""
    with suppress(OSError, ValueError):
        return json.loads((out / "result.json").read_text())["status"] == "completed"
    return False


def result(out):
    """The weights and the accuracies of a complete run."""
    table = json.loads((out / "result.json").read_text())
    assert table["status"] == "completed"
    return table["weights_sha256"], [b["test_accuracy"] for b in table["blocks"]], table["test"]


def under_torchrun(arguments, out, kills):
    """Ranks that are killed, and started again by torchrun in the same folder."""
    words = [*TORCHRUN, "--nproc-per-node", "2", "--max-restarts", str(kills + 2), str(ROOT / "launch.py"), "--out",
             str(out), *arguments]  # fmt: skip
    process, log = start(words)
    done = Counter()
    for _ in range(kills):
        seen = steps_of(out)
        deadline = time.monotonic() + 60
        while steps_of(out) <= seen and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with suppress(psutil.NoSuchProcess, IndexError):
            random.choice(psutil.Process(process.pid).children()).kill()
            done["rank"] += 1
    code, text = finish(process, log)
    assert code == 0, text
    assert json.loads((out / "result.json").read_text())["restarts"] == kills, text
    return done, result(out)


def steps_of(out):
    """The step of the newest snapshot."""
    found = [p.parent.name.removeprefix("step-") for p in out.glob("snapshots/step-*/manifest.json")]
    return max(map(int, found), default=-1)


def told_to_end(out, arguments, last_s):
    """Tells a run to end within its last seconds; the status of its result, which goes by whether it has weights."""
    process, log = start(command(arguments, out, stages=2, resume=False))
    deadline = time.monotonic() + LIMIT_S
    while num_epochs(out) < LAST_EPOCHS and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    with suppress(subprocess.TimeoutExpired):
        process.wait(random.uniform(0.0, last_s))
    process.terminate()
    code, text = finish(process, log)
    status = json.loads((out / "result.json").read_text())["status"]
    manifests = [json.loads(path.read_text()) for path in out.glob("snapshots/step-*/manifest.json")]
    ended = [m["steps"] for m in manifests if m["weights_sha256"]]
    assert (status == "completed") == bool(ended), f"{status}, exit status {code}, complete snapshots: {ended}\n{text}"
    told = 128 + signal.SIGTERM  # a complete run that is told to end while it is measured says so, and stays complete
    assert code in ((0, told) if status == "completed" else (told,)), f"{status}, exit status {code}\n{text}"
    return status


def num_epochs(out):
    """Epochs that every stage of a run of two has reported."""
    with suppress(OSError):
        return (out / "record.jsonl").read_text().count('"event": "epoch"') // 2
    return 0


def last_moments(folder, terms):
    """Runs that are told to end in their last second: how many ended how."""
    arguments = [*COMMON, *KINDS["predsim"], f"train.epochs={LAST_EPOCHS + 3}", "run.trace=true", "measure.every=9"]
    found = Counter()
    for number in range(terms):
        found[told_to_end(folder / f"told {number}", arguments, last_s=1.0)] += 1
    return found


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.support.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--terms", type=int, default=0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    random.seed(options.seed)
    print(f"seed {options.seed}, {options.kills} kills", flush=True)
    total, wrong = Counter(), []
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        if options.terms:
            print(f"told to end in their last second: {dict(last_moments(Path(folder), options.terms))}", flush=True)
        if not options.kills:
            return 0
        references = {}
        for name, arguments in KINDS.items():
            begun = time.monotonic()
            out = Path(folder) / f"{name} reference"
            code, text = finish(*start(command([*COMMON, *arguments], out, stages=2, resume=False)))
            assert code == 0, text
            references[name] = result(out), time.monotonic() - begun
        number = 0
        while sum(total.values()) < options.kills:
            name = list(KINDS)[number % len(KINDS)]
            reference, duration_s = references[name]
            out = Path(folder) / f"run {number}"
            done, found = disturbed([*COMMON, *KINDS[name]], out, random.randint(1, 3), duration_s)
            same = found == reference
            print(f"{name:<18} {dict(done)}: {'the same' if same else 'DIFFERENT'}", flush=True)
            total.update(done)
            wrong += [] if same else [name]
            number += 1
        done, found = under_torchrun([*COMMON, *KINDS["predsim"], "train.epochs=60"], Path(folder) / "ranks", 3)
        longer = Path(folder) / "longer reference"
        words = [*COMMON, *KINDS["predsim"], "train.epochs=60"]
        code, text = finish(*start(command(words, longer, stages=2, resume=False)))
        same = code == 0 and found == result(longer)
        print(f"{'torchrun':<18} {dict(done)}: {'the same' if same else 'DIFFERENT'}", flush=True)
        wrong += [] if same else ["torchrun"]
    print(f"{number} runs, kills: {dict(total)}; {len(wrong)} with other weights {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
