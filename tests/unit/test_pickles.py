"""Pickles that anyone may have written, and the one module that reads any."""

import ast
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.pickles import plain, trusted

ROOT = Path(__file__).resolve().parents[2]
ONE = ROOT / "pipeline" / "pickles.py"
FILES = sorted({*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("workers/**/*.py"), ROOT / "launch.py"} - {ONE})
ENTRY = {
    "data": np.arange(12, dtype=np.uint8).reshape(2, 6), "labels": [3, 4], "name": "b", "bytes": b"\x00\xff",
    "wide": np.arange(4, dtype=">i4").reshape(2, 2), "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}  # fmt: skip


class Command:
    """A pickle that runs a command where it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(5))
def test_plain_data_comes_back(protocol):
    found = plain(pickle.dumps(ENTRY, protocol))
    for key, value in ENTRY.items():
        assert np.array_equal(found[key], value) and type(found[key]) is type(value), key
    assert found["wide"].dtype == ENTRY["wide"].dtype


def test_strings_of_python_2_are_text_and_its_arrays_are_arrays():
    """As the files of CIFAR hold them: bytes in strings, and the module's old name."""
    written = pickle.dumps({"data": ENTRY["data"]}, 2).replace(b"numpy._core", b"numpy.core")
    text = b"_codecs\nencode"
    assert text in written  # what Python 3 writes for bytes
    found = plain(b"(dU\x04dataU\x03a\xe9bs.")
    assert found == {"data": "aéb"}
    assert np.array_equal(plain(written)["data"], ENTRY["data"])


def test_a_command_is_not_run(tmp_path):
    planted = pickle.dumps({"data": Command(tmp_path / "run")})
    with pytest.raises(pickle.UnpicklingError, match=r"it names (posix|nt)\.system, and only plain data is read"):
        plain(planted)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (pickle.dumps([1]), "it holds a list, and a dictionary is expected"),
        (pickle.dumps({"data": np.array([[1], "a"], dtype=object)}, 2), "other things than numbers"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "in another encoding"),
        (b"", "EOFError"),
        (b"<html>", "(KeyError|UnpicklingError|IndexError|NameError)"),
        (pickle.dumps(ENTRY, 2)[:-40], "(EOFError|ValueError|UnpicklingError|IndexError|truncated)"),
        (b"(dU\x04datacnumpy.core.multiarray\n_reconstruct\n)R(I1\n(I9\ntcnumpy\ndtype\n(U\x02u1tRI00\nU\x02abtbs.",
         "ValueError: cannot reshape array of size 2"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(data, text):
    with pytest.raises(pickle.UnpicklingError, match=text):
        plain(data)


def test_what_a_forged_pickle_asks_for_is_not_allocated():
    """A place far up in the memo: the reader in C makes room for all before it."""
    assert plain(b"}r\xff\xff\xff\x7f.") == {}


def test_objects_of_our_own_come_back():
    assert trusted(pickle.dumps(Path("here"))) == Path("here")


def readers(tree):
    """Calls and names by which a file could read a pickle."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            origin = getattr(node, "module", None)
            names = {alias.name for alias in node.names}
            if origin == "pickle" and names - {"UnpicklingError", "PicklingError", "dumps"}:
                yield node.lineno, "from pickle import"
            if {origin, *names} & {"dill", "cloudpickle", "marshal", "shelve", "joblib"}:
                yield node.lineno, "a reader of its own"
        elif isinstance(node, ast.Attribute):
            if node.attr in ("Unpickler", "_Unpickler", "weights_only") or ast.unparse(node) in (
                "pickle.load", "pickle.loads", "np.lib.format.read_array"
            ):
                yield node.lineno, ast.unparse(node)
            elif node.attr.endswith(("_object", "_object_list")) and ast.unparse(node).startswith("dist."):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call):
            given = {k.arg: k.value for k in node.keywords}
            name = ast.unparse(node.func)
            if "allow_pickle" in given and ast.unparse(given["allow_pickle"]) != "False":
                yield node.lineno, "allow_pickle"
            if name == "torch.load" and ast.unparse(given.get("weights_only", ast.Constant(None))) != "True":
                yield node.lineno, "torch.load"
            if name.endswith(".recv") and not node.args and not node.keywords:
                yield node.lineno, name  # of a multiprocessing connection; of a transport it has arguments


@pytest.mark.parametrize(
    "line",
    [
        "pickle.loads(data)", "pickle.load(file)", "class Mine(pickle.Unpickler): pass", "from pickle import loads",
        "np.load(file, allow_pickle=True)", "torch.load(file)", "torch.load(file, weights_only=False)",
        "topic, body = connection.recv()", "import dill", "dist.broadcast_object_list(jobs)",
    ],
)  # fmt: skip
def test_the_search_finds_every_way_to_read_one(line):
    assert list(readers(ast.parse(line)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_module_reads_pickles(path):
    """Elsewhere a pickle from a store, a file or a peer would be a command; see docs/reliability.md."""
    assert list(readers(ast.parse(path.read_text(encoding="utf8")))) == []
