import inspect
import pickle
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Union

import pytest

import pipeline.rules.pred_bio
import pipeline.rules.predsim_bio
from pipeline import registry
from pipeline.errors import ConfigError
from pipeline.values import check_value


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Writes modules that only this test can import."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)

    return write


def build(place, size=3, *, beta: float = 0.99, depth: int, kind: Literal["mse", "ce"] = "mse", sizes: list[int] = []):
    return place, size, beta, depth, kind, sizes


@dataclass(frozen=True, slots=True)
class Shape:
    """A group of options, as rules and data sets share them."""

    width: float = 1.0
    unit: Literal["tanh", "relu"] = "tanh"
    sizes: "list[int]" = field(default_factory=list)

    def __post_init__(self):
        if self.width < 0.0:
            raise ValueError(f"too narrow: {self.width}")


@dataclass(frozen=True)
class Must:
    rate: float
    steps: int = 2


def grouped(place, *, first: int = 1, shape: Shape = Shape(width=2.0), last: bool = False):
    return place, first, shape, last


def grouped_without_default(*, must: Must):
    return must


class GroupedClass:
    def __init__(self, place, *, shape: Shape = Shape()):
        self.place, self.shape = place, shape


def clashing(*, width: int = 1, shape: Shape = Shape(), again: Shape = Shape()):
    return width, shape, again


@dataclass(frozen=True)
class Derived:
    sizes: list[int] = field(default_factory=lambda: [3])
    total: int = field(init=False, default=0)


def derived(*, sizes_of: Derived):
    return sizes_of


@dataclass(frozen=True)
class Noise:
    level: float = 0.0


@dataclass(frozen=True)
class Targets:
    noise: float = 0.1


def swallowing(*, noise: Noise = Noise(), targets: Targets = Targets()):
    return noise, targets


def named_as_its_field(*, noise: Targets = Targets()):
    return noise


class Own:
    weird: "NoSuchName"  # noqa: F821

    def __init__(self, block, *, beta: float = 1.0, free="x"):
        self.block, self.beta, self.free = block, beta, free


def test_known_are_the_files_without_a_leading_underscore():
    names = registry.known("pipeline.rules")
    assert names == sorted(names)
    assert {"backprop", "predsim", "linear_decoder"} <= set(names)
    assert not [n for n in names if n.startswith("_")]


def test_load_by_name_and_by_dotted_name(own_module):
    assert registry.load("pipeline.rules", "pred_bio", "rule") is pipeline.rules.pred_bio.build
    own_module("reg_found", "def build(x):\n    return x\nother = 7\n")
    own_module("reg_package.__init__", "")
    own_module("reg_package.mine", "def build(x):\n    return x\nother = 7\n")
    assert registry.load("pipeline.rules", "reg_package.mine", "rule")(5) == 5
    assert registry.load("pipeline.rules", "reg_package.mine.other", "rule") == 7
    assert registry.load("pipeline.rules", "reg_found.other", "rule") == 7


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("predd", r"unknown rule \(given: 'predd', expected: .*backprop.*, pred, .*, or a dotted name of your own\)\. "
                  r"Did you mean 'pred'\? See launch\.py --list\."),
        ("zzzz", r"unknown rule \(given: 'zzzz', .*own\)\. See launch\.py --list\."),
        ("./rules/mine.py", r"not a name of a rule \(given: './rules/mine.py', expected: package\.module or .*\.py\."),
        (".mine", r"not a name of a rule \(given: '\.mine'"),
        ("no_such_thing.mine", r"cannot import the rule 'no_such_thing\.mine' \(No module named 'no_such_thing'\)\. "
                               r"Run from the folder that holds the module, or put it on PYTHONPATH\."),
        ("reg_a.rul", r"cannot find the rule \(given: 'reg_a\.rul', expected: a module, or an attribute of 'reg_a'; "
                      r"importing it says: No module named 'reg_a\.rul'.*\)\. Did you mean 'rule'\? Correct the name"),
        ("reg_b.empty", r"the module of this rule defines no build\(\) \(given: 'reg_b\.empty'\)\. Define build"),
        ("reg_b.broken", r"cannot find the rule .*importing it says: No module named 'no_such_library'"),
        ("reg_b.broken.Rule", r"cannot import the rule 'reg_b\.broken\.Rule' \(No module named 'no_such_library'\)"),
    ],
)  # fmt: skip
def test_names_that_lead_nowhere(own_module, name, text):
    own_module("reg_a", "rule = 1\n")
    own_module("reg_b.__init__", "")
    own_module("reg_b.empty", "")
    own_module("reg_b.broken", "import no_such_library\n")
    with pytest.raises(ConfigError, match=text):
        registry.load("pipeline.rules", name, "rule")


def test_summary_is_the_first_line(own_module):
    own_module("reg_c.__init__", "")
    own_module("reg_c.one", '"""What it is.\n\nMore.\n"""\n')
    own_module("reg_c.none", "")
    assert registry.summary("reg_c", "one") == "What it is."
    assert registry.summary("reg_c", "none") == ""


def test_options_are_the_keyword_only_parameters():
    assert registry.defaults(build) == {"beta": 0.99, "kind": "mse", "sizes": []}
    checked = registry.check_options(build, {"depth": 2, "beta": 1}, "rule")
    assert checked == {"beta": 1.0, "depth": 2, "kind": "mse", "sizes": []}
    assert type(checked["beta"]) is float


def test_a_thing_and_its_complete_options_at_once():
    named = registry.resolve("pipeline.rules", "predsim_bio", "rule", "rule", {"beta": 1})
    assert named.build is pipeline.rules.predsim_bio.build
    assert named.options == {"beta": 1.0, "dimdec": 4096}
    with pytest.raises(ConfigError, match=r"unknown rule \(given: 'predsimm', .*Did you mean 'predsim'\?"):
        registry.resolve("pipeline.rules", "predsimm", "rule", "rule", {})
    with pytest.raises(ConfigError, match=r"unknown key \(given: rule\.gamma, expected: rule\.beta, rule\.dimdec\)"):
        registry.resolve("pipeline.rules", "predsim_bio", "rule", "rule", {"gamma": 1})


def load_here(name):
    return registry.load("pipeline.rules", f"{__name__}.{name}", "rule")


def test_the_fields_of_a_group_are_options_in_its_place():
    build = load_here("grouped")
    assert list(inspect.signature(build).parameters) == ["place", "first", "width", "unit", "sizes", "last"]
    assert list(registry.defaults(build).items()) == [
        ("first", 1), ("width", 2.0), ("unit", "tanh"), ("sizes", []), ("last", False),
    ]  # fmt: skip
    options = registry.check_options(build, {"unit": "relu", "sizes": (1, 2), "first": 5}, "rule")
    assert options == {"first": 5, "width": 2.0, "unit": "relu", "sizes": [1, 2], "last": False}
    assert build("here", **options) == grouped("here", first=5, shape=Shape(2.0, "relu", [1, 2]))
    assert build("here") == grouped("here") and build("here", width=3.0)[2] == Shape(3.0)


def test_a_group_without_a_default_and_one_of_a_class():
    build = load_here("grouped_without_default")
    assert registry.defaults(build) == {"steps": 2}
    assert build(**registry.check_options(build, {"rate": 1}, "rule")) == Must(1.0)
    with pytest.raises(ConfigError, match=r"a key is missing \(expected: rule\.rate\)"):
        registry.check_options(build, {}, "rule")
    made = load_here("GroupedClass")("here", width=4.0)
    assert (made.place, made.shape) == ("here", Shape(4.0))


def test_fields_that_a_dataclass_makes_itself():
    build = load_here("derived")
    assert registry.defaults(build) == {"sizes": [3]}
    assert build() == Derived() and build(sizes=[1]) == Derived([1])


def test_a_group_may_have_the_name_of_its_own_field_and_of_no_other():
    assert load_here("named_as_its_field")(noise=0.5) == Targets(0.5)
    with pytest.raises(ConfigError, match=r"two options have the same name \(given: noise in .*swallowing"):
        load_here("swallowing")


def test_annotations_that_only_a_type_checker_can_read_hinder_no_loading(own_module):
    own_module("lazy_hints.edge", "def build(endpoint: 'Endpoint', *, payload='auto'):\n    return payload\n")
    assert registry.load("workers.transports", "lazy_hints.edge", "transport")(None, payload="gloo") == "gloo"


def test_a_build_with_groups_can_be_sent_to_a_worker():
    assert pickle.loads(pickle.dumps(load_here("grouped")))("here", last=True) == grouped("here", last=True)


def test_options_of_a_group_that_do_not_fit():
    build = load_here("grouped")
    with pytest.raises(ConfigError, match=r"given: rule\.widht, expected: rule\.first, rule\.width, .*'width'"):
        registry.check_options(build, {"widht": 1.0}, "rule")
    with pytest.raises(ConfigError, match=r"wrong value for rule\.unit \(given: 'gelu', str, expected: 'tanh' or"):
        registry.check_options(build, {"unit": "gelu"}, "rule")
    with pytest.raises(ConfigError, match=r"given: rule\.shape, "):
        registry.check_options(build, {"shape": {}}, "rule")
    with pytest.raises(ValueError, match="too narrow: -1.0"):
        build("here", width=-1.0)


def test_two_options_of_one_name_are_refused_at_once():
    with pytest.raises(ConfigError, match=(
        r"two options have the same name \(given: sizes, unit, width in [\w.]*test_registry\.clashing and its "
        r"groups of options\)\. Rename one of them\."
    )):  # fmt: skip
        load_here("clashing")


def test_options_of_a_class_and_of_a_partial():
    assert registry.check_options(Own, {"beta": 2, "free": [1]}, "rule") == {"beta": 2.0, "free": [1]}
    with pytest.raises(ConfigError, match=r"wrong value for rule\.beta"):
        registry.check_options(Own, {"beta": "much"}, "rule")
    assert registry.check_options(partial(build, "here", depth=4), {}, "rule")["depth"] == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"betta": 1.0, "depth": 1}, r"unknown key \(given: rule\.betta, expected: rule\.beta, rule\.depth, "
                                     r"rule\.kind, rule\.sizes\)\. Did you mean 'beta'\? Correct or remove it\."),
        ({"size": 1, "depth": 1}, r"given: rule\.size, "),
        ({}, r"a key is missing \(expected: rule\.depth\)\. Add it to the config\."),
        ({"depth": "3"}, r"wrong value for rule\.depth \(given: '3', str, expected: a whole number\)\. Change it\."),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(options, text):
    with pytest.raises(ConfigError, match=text):
        registry.check_options(build, options, "rule")


def test_a_thing_without_options_says_so():
    with pytest.raises(ConfigError, match=r"given: rule\.x, expected: no further options here"):
        registry.check_options(lambda block: block, {"x": 1}, "rule")


@pytest.mark.parametrize(
    ("value", "annotation", "converted"),
    [
        (3, int, 3), (3, float, 3.0), (2.5, float, 2.5), ("a", str, "a"), (True, bool, True), (None, type(None), None),
        (1, int | Literal["auto"], 1), ("auto", int | Literal["auto"], "auto"), (3, Union[None, float], 3.0),
        ("b", Literal["a", "b"], "b"), (2, Literal[1, 2], 2),
        ([1, 2], list[int], [1, 2]), ([1, 2], list[float], [1.0, 2.0]), ([1, 2], tuple[int, ...], (1, 2)),
        ((1, 2), list[int], [1, 2]), ([], list[int], []), ([[1], [2, 3]], list[list[int]], [[1], [2, 3]]),
        ({"a": 1}, Any, {"a": 1}), (4, int | list[int], 4), ([4], int | list[int], [4]),
    ],
)  # fmt: skip
def test_values_that_fit(value, annotation, converted):
    found = check_value(value, annotation, "k")
    assert found == converted
    assert type(found) is type(converted)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (True, int, "a whole number"), (True, float, "a number"),
        (False, int | Literal["auto"], "a whole number or 'auto'"),
        (1, bool, "true or false"), (0.5, int, "a whole number"), (1.0, int, "a whole number"), (1, str, "text"),
        ("1", float, "a number"), ("c", Literal["a", "b"], "'a' or 'b'"), (True, Literal[1, 2], "1 or 2"),
        (1, list[int], "a list in which each is a whole number"),
        ([1, "a"], list[int], "a list in which each is a whole number"),
        ([True], list[int], "a list in which each is a whole number"),
        ("ab", list[str], "a list in which each is text"),
        ("x", float | None, "a number"), (1, list, "a list"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(value, annotation, expected):
    with pytest.raises(ConfigError) as caught:
        check_value(value, annotation, "train.k")
    assert str(caught.value) == (
        f"wrong value for train.k (given: {value!r}, {type(value).__name__}, expected: {expected}). Change it."
    )


def test_nearest():
    assert registry.nearest("epoch", ["epochs", "batch_size"]) == "Did you mean 'epochs'? "
    assert registry.nearest("zzz", ["epochs"]) == ""
