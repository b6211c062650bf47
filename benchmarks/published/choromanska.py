"""Choromanska et al., online alternating minimisation (2019): MNIST by several nets, and a stand-in for HIGGS."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.cell import Band, Cell, Check, Figure, PublishedTable, in_order
from benchmarks.accuracy.metrics import after, after_steps, best, epochs_to, last

__all__ = ["TABLES"]

_BASE = {"dataset.name": "mnist", "train.batch_size": 200, "train.epochs": 50}
_HALVED = {"optimizer.milestones": [8, 16, 24, 32, 40, 48], "optimizer.gamma": 0.5}
_NET = {"model.name": "half_mlp", "model.norm": "batch"}
_AM = {"rule.name": "am", "optimizer.name": "adam", "optimizer.lr": 0.008, **_HALVED}
_ADAM = {"rule.name": "backprop", "model.bias": True, "optimizer.name": "adam", "optimizer.lr": 0.003}
_ARMS: dict[str, dict[str, Any]] = {
    "AM-Adam": {**_NET, **_AM},
    "AM-SGD": {**_NET, "rule.name": "am", "rule.reduction": "features", "optimizer.name": "sgd", "optimizer.lr": 0.1},
    "AM-mem": {
        **_NET, "model.norm": "none", "rule.name": "am_mem", "rule.reduction": "features", "rule.code_rate": 0.005,
        "optimizer.name": "sgd", "optimizer.lr": 1.0,
    },
    "Adam": {**_NET, **_ADAM},
    "SGD": {**_NET, **_ADAM, "optimizer.name": "sgd", "optimizer.lr": 0.1},
}  # fmt: skip
_COUNTS = (10, 20, 50, 100, 200, 300)
_SEEN = (5, 10, 50, 200, 1000)
_WIDTHS = {"2x100": [100, 100], "2x500": [500, 500]}


def _figures(row: str, net: str, band: Band | None = None) -> list[Figure]:
    return [Figure(row, f"{net}, after 1 epoch", after(1)), Figure(row, f"{net}, last", last, None, band)]


def _mnist(arm: str, net: str, band: Band | None = None) -> Cell:
    config = {**_BASE, **_ARMS[arm], "model.width": _WIDTHS[net]}
    return Cell(f"{net}-{arm.lower()}", config, _figures(arm, net, band), limit_s=7200.0)


def _offline(arm: str, method: str) -> Cell:
    """The whole training set at once; of the rule's options it takes those of codes."""
    config = {
        **_BASE, **_NET, "model.norm": "none", "model.width": [100, 100], "rule.name": "am",
        "rule.reduction": "features", "optimizer.name": "sgd", "train.batch_size": 60000,
    }  # fmt: skip
    program = ("benchmarks.offline", "--method", method)
    return Cell(f"2x100-{method}", config, _figures(arm, "2x100"), limit_s=7200.0, program=program)


def _first_epoch(arm: str) -> Cell:
    """Snapshots of every step, from which the error after it is found."""
    config = {
        **_BASE, **_ARMS[arm], "model.width": [100, 100], "train.epochs": 1, "snapshot.every_steps": 1,
        "snapshot.keep": 1000,
    }  # fmt: skip
    figures = [Figure(arm, f"{count} mini-batches", after_steps(count)) for count in _COUNTS]
    return Cell(f"2x100-{arm.lower()}", config, figures, (0, 1, 2), program=("benchmarks.after_steps",))


def _samples(count: int) -> str:
    """A column: after so many mini-batches."""
    return f"{200 * count:,} samples".replace(",", " ")


def _streamed(arm: str) -> Cell:
    """A thousand mini-batches, no sample twice; snapshots of every fifth step."""
    config = {
        **_ARMS[arm], "dataset.name": "higgs_like", "model.width": [300, 300], "train.batch_size": 200,
        "train.epochs": 1, "snapshot.every_steps": 5, "snapshot.keep": 1000,
    }  # fmt: skip
    figures = [Figure(arm, _samples(count), after_steps(count)) for count in _SEEN]
    return Cell(arm.lower(), config, figures, program=("benchmarks.after_steps",))


def _short(
    name: str, row: str, epochs: int, changes: Mapping[str, Any], band: Band | None = None, reason: str = "",
    more: Sequence[Figure] = (),
) -> Cell:  # fmt: skip
    figures = [
        Figure(row, "after 1 epoch", after(1)), Figure(row, "last", last, None, band, reason),
        Figure(row, "best", best), *more,
    ]  # fmt: skip
    return Cell(name, {**_BASE, "train.epochs": epochs, **changes}, figures, limit_s=7200.0)


def _signs(name: str, row: str, changes: Mapping[str, Any], band: Band | None = None) -> Cell:
    """A net with a layer of signs, and how soon it is at 3 %."""
    return _short(name, row, 20, changes, band, more=[Figure(row, "epochs to 3 %", epochs_to(3.0))])


_SIGNS = {**_NET, "model.width": [500, 500], "model.activation": ["sign", "tanh"], "model.dropout": 0.2}
_DTP = {
    "model.name": "mlp", "model.norm": "none", "model.init": "orthogonal", "model.depth": 2, "model.width": 500,
    "model.activation": ["sign", "tanh"], "rule.name": "dtp", "train.batch_size": 100,
}  # fmt: skip
_LEE = {
    "rule.step": 27.97, "rule.noise": 0.5, "rule.noise_halving": 50, "rule.inverse_rate": 0.656,
    "optimizer.name": "rmsprop", "optimizer.lr": 6.6e-4, "optimizer.centered": True, "optimizer.alpha": 0.95,
    "optimizer.momentum": 0.9, "optimizer.eps": 1e-3,
}  # fmt: skip
_DTP_ADAM = {
    "rule.step": 5.0, "rule.noise": 0.36, "rule.scale_reconstruction": True, "rule.inverse_rate": 2.5,
    "optimizer.name": "adam", "optimizer.lr": 4e-4,
}  # fmt: skip
_LENET = {"model.name": "lenet5"}
_LENET_AM = {**_LENET, **_AM, "model.boundary": "half"}
_BY_LEE, _BY_ADAM = "DTP, RMSprop, no batch norm, no dropout", "DTP, Adam, no batch norm, no dropout"
_UNSTABLE = "without batch norm a layer's weights grow until the search for codes is unstable"
_BANDS = "Bands are what is asked of two cores here. "

TABLES = (
    PublishedTable(
        "am-first-epoch",
        "Online alternating minimisation in the first epoch on MNIST, 2x100, test error in %",
        "Choromanska et al. (2019), first-epoch curves, without figures",
        [_first_epoch(arm) for arm in ("AM-Adam", "Adam", "SGD")],
        [in_order("AM-Adam is at most half a point behind Adam after 50 mini-batches", "50 mini-batches",
                  [["AM-Adam"], ["Adam"]], 0.5)],
        note="Batches of 200; the error after every mini-batch is in the files of the cells.",
    ),
    PublishedTable(
        "am-mnist",
        "Online alternating minimisation on MNIST, 50 epochs in batches of 200, test error in %",
        "Choromanska et al. (2019), Figure 2, curves only",
        [
            _mnist("AM-Adam", "2x100", Band(most=2.8)), _mnist("AM-Adam", "2x500", Band(most=2.2)),
            *(_mnist(arm, "2x100") for arm in ("AM-SGD", "AM-mem", "SGD", "Adam")), _mnist("Adam", "2x500"),
            _offline("offline AM, 50 iterations", "alternating"), _offline("ADMM, 50 iterations", "admm"),
        ],
        [Check("offline alternating minimisation is worse by at least 3 points",
               [(("offline AM, 50 iterations", "2x100, last"), ("AM-Adam", "2x100, last"))], Band(least=3.0))],
        note=_BANDS + "Batch norm behind every hidden layer, as in the published code, but for AM-mem, which has "
        "none; codes by 5 steps. Rates of AM-SGD, AM-mem and SGD are chosen here. Offline, an iteration has the whole "
        "training set: weights by 20 sweeps, the output by L-BFGS; ADMM as of Taylor et al. (2016), from a forward "
        "pass; neither has batch norm.",
    ),
    PublishedTable(
        "am-binary",
        "A layer of signs, 784-500-500-10 on MNIST, 20 epochs, test error in %",
        "Choromanska et al. (2019), Figure 8, curves only",
        [
            _signs("am", "AM-Adam, 10 code steps", {**_SIGNS, **_AM, "rule.code_steps": 10}, Band(most=5.0)),
            _signs("straight-through", "straight-through, Adam",
                   {**_SIGNS, **_ADAM, "rule.name": "straight_through", "model.bias": False}),
            _signs("dtp", _BY_LEE, {**_DTP, **_LEE}), _signs("dtp-adam", _BY_ADAM, {**_DTP, **_DTP_ADAM}),
        ],
        [Check("alternating minimisation is within a point of straight-through estimation",
               [(("AM-Adam, 10 code steps", "last"), ("straight-through, Adam", "last"))], Band(most=1.0)),
         Check("the last error of difference target propagation less that of alternating minimisation, in points",
               [((row, "last"), ("AM-Adam, 10 code steps", "last")) for row in (_BY_LEE, _BY_ADAM)], None)],
        note=_BANDS + "The first hidden layer's units are the signs of tanh, the second's are tanh; dropout of .2 in "
        "front of both, batch norm and batches of 200. Under difference target propagation, whose targets are of a "
        "linear map and its unit alone: no dropout, no batch norm, biases, orthogonal weights, batches of 100. Its "
        "first row has the settings of Lee et al. (2015) for a net of 500-500 signs, for 20 epochs of their 500, "
        "inverse and block trained on every batch in turn; step, noise and rates of the second are those of the 8x128 "
        "net of lra-table1-mnist. Published is the same error in under 20 epochs where difference target propagation "
        "takes about 200, a tenth of its epochs: that is not seen here, where its second row is at 3 % about as soon.",
    ),
    PublishedTable(
        "am-lenet",
        "LeNet-5 on MNIST, 10 epochs, test error in %",
        "Choromanska et al. (2019), Figure 7, curves only",
        [
            _short("am", "AM-Adam at .008", 10, _LENET_AM, Band(most=1.5), _UNSTABLE),
            _short("am-003", "AM-Adam at .003", 10,
                   {**_LENET_AM, "optimizer.lr": 0.003, "optimizer.milestones": [4, 6, 8]}, Band(most=1.5),
                   "it goes up and down around 1.7 from the second epoch on; shorter steps of the codes end lower"),
            _short("am-003-shorter", "AM-Adam at .003, code steps a third as long", 10,
                   {**_LENET_AM, "optimizer.lr": 0.003, "optimizer.milestones": [4, 6, 8], "rule.code_rate": 5e-4},
                   Band(most=1.5)),
            _short("am-mean", "AM-Adam at .008, means", 10, {**_LENET_AM, "rule.reduction": "mean"}, Band(most=1.5)),
            _short("adam", "Adam", 10, {**_LENET, "rule.name": "backprop", "optimizer.name": "adam",
                                        "optimizer.lr": 0.003}),
        ],
        note=_BANDS + "Codes of both convolutions and of both hidden linear layers, by sums over all their features, "
        "or where said by means; no batch norm. The published code has .008, halved every 8 epochs, means, and code "
        "steps of .3 against the mean over a batch, which is the row with means; rates, milestones and code steps of "
        "the rows at .003 are chosen here.",
    ),
    PublishedTable(
        "higgs-like",
        "A stand-in for HIGGS, 200 000 samples streamed once, 2x300, test error in %",
        "Choromanska et al. (2019), Figure 5, curves only, of HIGGS itself",
        [_streamed(arm) for arm in ("AM-Adam", "AM-SGD", "Adam", "SGD")],
        [in_order(f"AM-Adam is at most two points behind {other} after {column}", column, [["AM-Adam"], [other]], 2.0)
         for other in ("Adam", "SGD") for column in map(_samples, _SEEN)],
        note="This is not HIGGS, which is a download of 11 million rows: samples are of scikit-learn, of as many "
        "inputs and classes, with a tenth of the labels wrong. Claimed of HIGGS is that AM is where Adam is, and "
        "ahead of SGD, from about a thousand samples on; on the stand-in it falls behind both in between. No figure "
        "here can be compared with one of HIGGS.",
    ),
)  # fmt: skip
