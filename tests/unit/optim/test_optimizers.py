import pickle
from contextlib import suppress

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.optim.optimizers import load_optimizer, optimizer_options, state_options

CASES = [
    ("adam", {}),
    ("adam", {"amsgrad": True, "weight_decay": 0.01}),
    ("adamw", {}),
    ("sgd", {}),
    ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("sgd", {"momentum": 0.9, "dampening": 0.5}),
    ("rmsprop", {"centered": True, "momentum": 0.9}),
    ("rprop", {}),
    ("adagrad", {"lr_decay": 0.1}),
]
SIZES = [[(7, 5), (5,)], [(64, 33), (64,)], [(3, 2, 3, 3)]]


def parameters():
    draw = torch.Generator().manual_seed(0)
    return [[nn.Parameter(torch.randn(s, generator=draw)) for s in sizes] for sizes in SIZES]


def trained(build, steps_of):
    """The parameters after ten steps; block k has gradients in step n where ``steps_of(k, n)``."""
    blocks = parameters()
    optimizers = build(blocks)
    draw = torch.Generator().manual_seed(1)
    for n in range(10):
        for k, block in enumerate(blocks):
            for p in block:
                grad = torch.randn(p.shape, generator=draw)
                p.grad = grad if steps_of(k, n) else None
        for optimizer in optimizers:
            optimizer.step()
    return [p.detach() for block in blocks for p in block]


def always(block, step):
    return True


def late_and_with_gaps(block, step):
    return step >= 2 * block and (step + block) % 3 != 0


@pytest.mark.parametrize("steps_of", [always, late_and_with_gaps])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_one_optimizer_for_all_blocks_equals_one_for_each(name, options, steps_of):
    spec = load_optimizer(name, options)
    together = trained(lambda blocks: [spec.build(p for block in blocks for p in block)], steps_of)
    apart = trained(lambda blocks: [spec.build(block) for block in blocks], steps_of)
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(together, [p for b in parameters() for p in b], strict=True))


@pytest.mark.parametrize("steps_of", [always, late_and_with_gaps])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_agrees_with_torchs_plain_loop(name, options, steps_of):
    # Fused kernels contract products and sums differently: last bits only.
    spec = load_optimizer(name, options)
    kind = type(spec.build(parameters()[0]))
    ours = trained(lambda blocks: [spec.build(p for block in blocks for p in block)], steps_of)
    plain = trained(
        lambda blocks: [kind(block, **spec.options, foreach=False) for block in blocks], steps_of
    )
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "fused"),
    [
        ("adam", {}, True),
        ("adamw", {}, True),
        ("sgd", {"momentum": 0.9}, True),
        ("sgd", {"momentum": 0.9, "dampening": 0.1}, False),
        ("adagrad", {}, True),
        ("rmsprop", {}, False),
        ("rprop", {}, False),
    ],
)
def test_one_kernel_where_torch_has_one(name, options, fused):
    group = load_optimizer(name, options).build(parameters()[0]).param_groups[0]
    assert (group.get("fused"), group["foreach"]) == ((True, None) if fused else (group.get("fused"), True))
    assert bool(group.get("fused")) is fused


@pytest.mark.parametrize(("name", "options"), CASES)
def test_blocks_may_leave_the_groups_and_come_back(name, options):
    spec = load_optimizer(name, options)
    expected = trained(lambda blocks: [spec.build(block) for block in blocks], lambda k, n: k == 1 or n not in (3, 4))

    blocks = parameters()
    optimizer = spec.build(p for block in blocks for p in block)
    (shared,) = optimizer.param_groups
    draw = torch.Generator().manual_seed(1)
    for n in range(10):
        training = blocks[1:2] if n in (3, 4) else blocks
        optimizer.param_groups = [{**shared, "params": block} for block in training]
        for p in [p for block in blocks for p in block]:
            p.grad = torch.randn(p.shape, generator=draw)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(expected, [p for b in blocks for p in b], strict=True))


def test_options_are_complete_and_picklable():
    spec = pickle.loads(pickle.dumps(load_optimizer("rprop", {"lr": 1, "etas": [0.4, 2]})))
    assert spec.options == {"lr": 1.0, "etas": (0.4, 2.0), "step_sizes": (1e-06, 50.0)}
    assert spec.lr == 1.0 and type(spec.lr) is float
    assert load_optimizer("sgd", {}).options["weight_decay"] == 0.0


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("adm", {}, r"unknown optimizer \(given: 'adm', expected: adagrad, adam, .*Did you mean 'adam'\?"),
        ("adam", {"momentun": 0.9}, r"unknown key \(given: optimizer.momentun, expected: optimizer.lr, "),
        ("sgd", {"momentun": 0.9}, r"Did you mean 'momentum'\? Correct or remove it."),
        ("adam", {"fused": True}, r"unknown key \(given: optimizer.fused"),
        ("adam", {"lr": "1e-3"}, r"wrong value for optimizer.lr \(given: '1e-3', str, expected: a number\)"),
        ("sgd", {"nesterov": 1}, r"wrong value for optimizer.nesterov .*expected: true or false"),
        ("adam", {"betas": 0.9}, r"wrong value for optimizer.betas .*expected: a list in which each is a number"),
        ("adam", {"betas": [0.9]}, r"wrong number of values for optimizer.betas \(given: \[0.9\], expected: 2\)"),
        ("adam", {"lr": -1.0}, r"wrong value for optimizer.lr \(given: -1.0, expected: at least 0, at most 1e30\)"),
        ("rprop", {"etas": [0.5, 0.9]}, r"torch refuses these options \(given: rprop; it says: Invalid eta values"),
        ("sgd", {"nesterov": True}, r"torch refuses .*Nesterov momentum requires a momentum"),
    ],
)
def test_choices_that_cannot_be_run(name, options, text):
    with pytest.raises(ConfigError, match=text):
        load_optimizer(name, options)


def stepped(name, options, state=()):
    """The state of a parameter after a step that began with ``state``."""
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer = load_optimizer(name, {"lr": 0.01, **options}).build([parameter])
    optimizer.state[parameter].update({key: torch.clone(value) for key, value in dict(state).items()})
    optimizer.step()
    return {key: value for key, value in optimizer.state[parameter].items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("name", optimizer_options())
def test_a_state_fits_other_options_but_for_those_that_need_more_of_it(name):
    """Each option of every optimizer is turned on alone, and off."""
    plain, unfit = stepped(name, {}), set()
    for key, option in optimizer_options()[name].items():
        if isinstance(option.default, tuple) or key == "lr":
            continue
        given = {key: not option.default if isinstance(option.default, bool) else 0.5}
        state = None
        with suppress(ValueError, RuntimeError, ConfigError):  # nesterov alone
            state = stepped(name, given)
        if state is None:
            continue
        stepped(name, {}, state)
        try:
            stepped(name, given, plain)
        except KeyError:
            unfit.add(key)
    assert unfit == set(state_options(name, dict.fromkeys(optimizer_options()[name], 0.5)))
    assert state_options(name, {}) == ()
