"""The mode ``gated`` beside parallel and sequential training: Mertens' closing hypothesis (2023), tested.

Nothing is in print: arms are compared with each other, seed by seed. Rates do not change in a run, so one of R rounds
tells the error after fewer, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy.by_block import at_round, at_updates, block_error, drift_at, moved, updates_taken
from benchmarks.accuracy.cell import Cell, Contrast, Figure, PublishedTable
from benchmarks.accuracy.metrics import test_loss

__all__ = ["PARALLEL", "SOURCE", "TABLES", "gate", "mlp"]

Config = Mapping[str, Any]

PARALLEL, SEQUENTIAL, BACKPROP = "parallel", "sequential", "backprop"
_SLOWER = "parallel at half the rate"
"""What a gate might do by nothing but its shorter steps."""
_UPDATES = {"measure.every": 1, "measure.angles": False, "measure.accuracies": False, "measure.keep_weights": False}
"""How far weights move in an epoch."""


@dataclass(frozen=True)
class Net:
    """A network, its data and its optimizer, on which arms are compared."""

    title: str
    """In front of the arm in a row; empty where a table has one net."""
    name: str
    """The same in the names of files."""
    config: Config
    blocks: int
    own: int
    """Epochs that a block trains in the sequential arm."""
    seeds: Sequence[int]
    limit_s: float = 1800.0

    @property
    def rounds(self) -> int:
        """Epochs of every arm: those that all blocks take, one after another."""
        return self.blocks * self.own

    def row(self, arm: str) -> str:
        """Of an arm."""
        return f"{self.title}, {arm}" if self.title else arm

    def arm(self, arm: str, changes: Config, *more: Figure) -> Cell:
        """The cell of an arm. Args: changes, to the net's config; more, figures."""
        row = self.row(arm)
        figures = [
            Figure(row, _rounds(self.own), at_round(self.own)),
            Figure(row, _updates(self.own), at_updates(self.own)),
            Figure(row, _rounds(self.rounds), at_round(self.rounds)), *more,
            Figure(row, "updates", updates_taken),
            *(Figure(row, _block(k), block_error(k)) for k in range(self.blocks)),
        ]  # fmt: skip
        own = {k: v for k, v in self.config.items() if "rule.name" not in changes or not k.startswith("rule.")}
        config = {**_UPDATES, **own, "train.epochs": self.rounds, **changes}
        name = f"{self.name}-{arm}" if self.name else arm
        plain = name.replace(", ", "-").replace(" ", "-").replace("tau-", "").lower()
        return Cell(plain, config, figures, self.seeds, limit_s=self.limit_s, by_block=True)

    def plain(self) -> dict[str, Config]:
        """The arms that gates are compared with."""
        own = {"schedule.patience": self.own, "schedule.tolerance": 0.0, "train.epochs": self.own}
        return {
            PARALLEL: {"schedule.mode": "parallel"}, SEQUENTIAL: {"schedule.mode": "sequential", **own},
        }  # fmt: skip

    def contrasts(self, arms: Sequence[str]) -> Iterator[Contrast]:
        """Every arm against parallel, those with a gate against sequential, and gates that measure against the staged
        wave that does not: at equal rounds, and at equal updates of a block, of which the sequential arm has as many
        when it ends. Of several such waves it is the one in the middle."""
        whole, equal = _rounds(self.rounds), _updates(self.own)
        staged = [arm for arm in arms if arm.startswith("G3")]
        for arm in arms:
            if arm != PARALLEL:
                yield self._contrast(f"at {whole}", (arm, whole), (PARALLEL, whole))
                yield self._contrast(f"at {equal}", (arm, equal), (PARALLEL, equal))
            if arm not in (PARALLEL, SEQUENTIAL, BACKPROP, _SLOWER):
                yield self._contrast(f"at {whole}", (arm, whole), (SEQUENTIAL, whole))
                yield self._contrast(f"at {equal}", (arm, equal), (SEQUENTIAL, equal))
            if arm.startswith(("G1", "G2", "G4")):
                control = staged[len(staged) // 2]
                yield self._contrast(f"at {whole}", (arm, whole), (control, whole))
                yield self._contrast(f"at {equal}", (arm, equal), (control, equal))
            if arm.startswith(("G1,", "G2,")) and _SLOWER in arms:
                yield self._contrast(f"at {whole}", (arm, whole), (_SLOWER, whole))

    def _contrast(self, about: str, first: tuple[str, str], second: tuple[str, str]) -> Contrast:
        return Contrast(about, (self.row(first[0]), first[1]), (self.row(second[0]), second[1]))


def _rounds(count: int) -> str:
    return f"{count} rounds" if count > 1 else "1 round"


def _updates(count: int) -> str:
    """Of a block, in epochs' worth of whole steps."""
    return f"{count} updates a block" if count > 1 else "1 update a block"


def _block(block: int) -> str:
    return f"block {block}"


def gate(form: str, **keys: Any) -> dict[str, Any]:
    return {"schedule.mode": "gated", "gate.form": form, **{f"gate.{key}": value for key, value in keys.items()}}


_BACKPROP = {"rule.name": "backprop", "schedule.mode": "backprop"}

_XOR = Net(
    "", "",
    {
        "model.name": "mlp", "model.width": [100, 100, 10], "model.activation": "mish", "model.norm": "l2",
        "dataset.name": "signed_xor", "train.batch_size": 1000, "rule.name": "linear_decoder",
        "optimizer.name": "rprop", "optimizer.lr": 0.01, "measure.every": 10, "gate.probe_every": 1,
        "gate.probe_samples": 200,
    },
    blocks=4, own=50, seeds=range(20), limit_s=300.0,
)  # fmt: skip
_XOR_GATES = {
    **{f"{form}, tau {tau}": gate(form, tau=tau) for form in ("G1", "G2") for tau in (0.02, 0.1, 0.5)},
    **{f"G3, delay {delay}": gate("G3", delay=delay, ramp=delay) for delay in (12, 25, 50)},
    **{f"G4, tau {tau}": gate("G4", tau=tau) for tau in (0.01, 0.02)},
    **{f"G1m, tau {tau}": gate("G1m", tau=tau) for tau in (0.02, 0.1)},
}

_MNIST = {
    "model.name": "mlp", "model.norm": "none", "dataset.name": "mnist", "dataset.train_samples": 15000,
    "train.batch_size": 50, "gate.probe_every": 50,
}  # fmt: skip
_ADAM, _SGD, _SIGN = "Adam", "SGD", "sign descent"
_RULES = {"pred": "pred", "linear": "linear_decoder"}
_RATES = {
    ("pred", _ADAM): 5e-4, ("pred", _SGD): 0.1, ("pred", _SIGN): 5e-4,
    ("linear", _ADAM): 5e-4, ("linear", _SGD): 0.5, ("linear", _SIGN): 5e-4,
}  # fmt: skip
"""The better one of two, after two epochs of parallel training; that of Adam was given."""
_OPTIMIZERS = {_ADAM: "adam", _SGD: "sgd", _SIGN: "sign_sgd"}


def mlp(depth: int, width: int, own: int, rule: str, optimizer: str) -> Net:
    """An MLP on MNIST. Args: see :class:`Net`, and the keys of ``_RATES``."""
    config = {
        **_MNIST, "model.depth": depth, "model.width": width, "rule.name": _RULES[rule],
        "optimizer.name": _OPTIMIZERS[optimizer], "optimizer.lr": _RATES[rule, optimizer],
    }  # fmt: skip
    seeds = range(5 if depth == 8 and optimizer == _ADAM else 3)
    return Net(f"{rule}, {optimizer}", f"{rule}-{optimizer}", config, depth + 1, own, seeds)


def _wave_gates(net: Net, taus: Sequence[float], trigger: float) -> dict[str, Config]:
    """Gates of deep nets: G1 and G2 with every tau; waves, of which the staged one is through in the middle of the run.

    Args:
        taus: of G1 and G2, the first one of G1m as well.
        trigger: tau of G4.
    """
    delay = net.own / 2
    return {
        **{f"{form}, tau {tau}": gate(form, tau=tau) for form in ("G1", "G2") for tau in taus},
        f"G3, delay {delay:g}": gate("G3", delay=delay, ramp=delay),
        f"G4, tau {trigger}": gate("G4", tau=trigger, memory=0.5),
        f"G1m, tau {taus[0]}": gate("G1m", tau=taus[0]),
    }


def _cells(net: Net, gates: Mapping[str, Config], *, backprop: bool = True) -> list[Cell]:
    """All arms of a net."""
    arms = {**net.plain(), **gates, **({BACKPROP: _BACKPROP} if backprop else {})}
    return [net.arm(arm, changes) for arm, changes in arms.items()]


def _mlp_table(depth: int, width: int, own: int, optimizers: Sequence[str], note: str) -> PublishedTable:
    """An MLP under both rules; what backpropagation does is the same beside both, and is run once."""
    cells: list[Cell] = []
    contrasts: list[Contrast] = []
    for optimizer in optimizers:
        for rule in _RULES:
            net = mlp(depth, width, own, rule, optimizer)
            taus = (0.2, 0.5) if optimizer == _ADAM and depth == 8 else (0.2,)
            gates = _wave_gates(net, taus, 0.1 if optimizer == _ADAM else 0.2)
            if depth == 8:
                gates[_SLOWER] = {"schedule.mode": PARALLEL, "optimizer.lr": _RATES[rule, optimizer] / 2}
            backprop = rule == "pred" or optimizer == _SGD  # whose rates differ
            cells += _cells(net, gates, backprop=backprop)
            contrasts += net.contrasts([*net.plain(), *gates, *([BACKPROP] if backprop else [])])
    return PublishedTable(
        f"gated-mlp-{depth}x{width}",
        f"The mode gated: MLP {depth}x{width} on MNIST, test error in %, medians over the seeds",
        SOURCE, cells, note=note, contrasts=contrasts,
    )  # fmt: skip


SOURCE = "none: the hypothesis is that of Mertens (2023), which nobody has tested"
_COLUMNS = (
    "A round is an epoch, of all blocks at once. Updates are counted in epochs' worth of whole steps, in the mean over "
    "blocks: an arm's error at a number of them lies on the line through the logarithms of the two evaluations around "
    "it (on signed xor after 50 rounds of every tenth), and a sequential run has taken as many as it trains a block "
    "when it ends. Blocks: the last error of each by its own decoder, 0 being the lowest. Each interval stands by "
    "itself. "
)


def _xor_table() -> PublishedTable:
    """Signed xor, with the notebook's net."""
    more = {arm: [Figure(arm, f"drift {k}, {n}", drift_at(n, k)) for n in (10, 50, 200) for k in range(1, _XOR.blocks)]
            for arm in _XOR_GATES}  # fmt: skip
    arms = {**_XOR.plain(), **_XOR_GATES, BACKPROP: _BACKPROP}
    cells = [
        _XOR.arm(
            arm, changes, Figure(arm, "BCE", test_loss), *more.get(arm, ()),
            *(Figure(f"{arm}: weights moved, %", _block(k), moved(k)) for k in range(_XOR.blocks)),
        )
        for arm, changes in arms.items()
    ]  # fmt: skip
    return PublishedTable(
        "gated-xor",
        "The mode gated: signed xor, 2-100-100-10-1, test error in %, medians over 20 seeds",
        SOURCE, cells,
        note=f"{_COLUMNS}Trained decoders, Rprop of each block, full batches. Parallel after 50 rounds is in the "
        "column of that. Gates: the probe is 200 points at every step; G3's ramp is as long as its delay. Drift: D of "
        "the input of blocks 1 to 3 after 10, 50 and 200 rounds. Weights moved: how far those of a block go in ten "
        "rounds, in percent of their length, a mean over the run.",
        contrasts=list(_XOR.contrasts(list(arms))),
    )  # fmt: skip


_VGG = Net(
    "", "",
    {
        "model.name": "vgg8b", "model.width": 0.25, "model.init": "zero_output", "dataset.name": "image_folder",
        "dataset.path": "cifar10-jpeg", "dataset.image_size": 32, "dataset.mean": [0.424, 0.415, 0.384],
        "dataset.std": [0.283, 0.278, 0.284], "dataset.crop_padding": 4, "dataset.flip": True,
        "dataset.train_samples": 5000, "train.batch_size": 64, "rule.name": "pred", "rule.dimdec": 2048,
        "optimizer.name": "adam", "optimizer.lr": 5e-4, "run.matmul_precision": "medium", "gate.probe_every": 20,
    },
    blocks=8, own=1, seeds=range(2), limit_s=3600.0,
)  # fmt: skip


def _vgg_table() -> PublishedTable:
    gates = _wave_gates(_VGG, (0.2,), 0.1)
    return PublishedTable(
        "gated-vgg",
        "The mode gated: VGG8B at a quarter of its width on CIFAR-10 re-encoded as JPEG, test error in %, 2 seeds",
        SOURCE, _cells(_VGG, gates),
        note=f"{_COLUMNS}pred, Adam at 5e-4, batches of 64. Reduced for two cores: 5 000 training pictures, one epoch "
        "a block, 8 rounds; the probe is 128 samples every 20 steps. Two seeds give wide intervals.",
        contrasts=list(_VGG.contrasts([*_VGG.plain(), *gates, BACKPROP])),
    )  # fmt: skip


_REDUCED = (
    "Without normalisation, batches of 50, constant rates. Reduced for two cores: 15 000 training samples, {}. The "
    "probe is 128 samples every 50 steps; G3's ramp is as long as its delay; G4 with gate.memory = 0.5. Backprop does "
    "not depend on the rule, and is run once for each rate."
)

TABLES = (
    _xor_table(),
    _mlp_table(8, 128, 2, tuple(_OPTIMIZERS), _COLUMNS + _REDUCED.format("two epochs a block, 18 rounds")
               + " Five seeds with Adam, three otherwise."),
    _mlp_table(16, 64, 1, (_ADAM,), _COLUMNS + _REDUCED.format("one epoch a block, 17 rounds, three seeds")),
    _vgg_table(),
)  # fmt: skip
