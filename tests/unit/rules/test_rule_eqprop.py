"""Equilibrium propagation beside its energy, its fixed points and their gradients by autograd."""

import pytest
import torch
from eqprop_builders import (
    CLASSES, FORMS, NUDGE, SETTLED, SHIFT, Clip, flat, inputs, learned, made, network, noted, settled, with_store,
)  # fmt: skip
from rule_builders import assert_same
from tests.support.exchange import run_forward
from torch import nn

from pipeline.engine.settling import Settling


def unrolled(blocks, x, y, form="prototypical", rounds=150, step=0.5):
    """The cost's gradients by autograd through all rounds of a free phase that begins at 0."""
    layers = [(block.body[0].weight, block.body[0].bias) for block in blocks]
    states = [x.new_zeros(len(x), len(b)) for _, b in layers]
    for _ in range(rounds):
        states = advanced(blocks, x, states, form, step)
    targets = nn.functional.one_hot(y, CLASSES).to(x.dtype)
    cost = (states[-1] - targets).square().sum() / len(y) * (0.5 if form == "prototypical" else 1.0)
    found = iter(torch.autograd.grad(cost, [p for layer in layers for p in layer]))
    return [[next(found) for _ in layer] for layer in layers]


def advanced(blocks, x, states, form, step):
    """All states after one simultaneous round."""
    below, found = [x, *states], []
    for k, block in enumerate(blocks):
        u = block.body[0](below[k])
        if k + 1 < len(blocks):
            u = u + states[k + 1] @ blocks[k + 1].body[0].weight
        found.append(block.body[1](u) if form == "prototypical" else (states[k] + step * (u - states[k])).clamp(0, 1))
    return found


def error(blocks, form, nudging, beta, wanted):
    """Relative error of the rule's gradients."""
    rules = made(blocks, form, nudging=nudging, beta=beta, **SETTLED)
    return ((flat(learned(rules, *inputs())) - flat(wanted)).norm() / flat(wanted).norm()).item()


def smooth(form):
    """A network of either form whose states stay away from the ends of [0, 1]."""
    return [b.double() for b in network(FORMS[form], scale=0.3 if form == "prototypical" else 0.2, shift=SHIFT[form])]


@pytest.mark.parametrize("form", FORMS)
def test_o_q1_both_signs_give_the_gradient_of_the_unrolled_free_phase(form):
    """O-Q1: nudged with both signs, updates are the gradient of the unrolled free phase."""
    blocks = smooth(form)
    wanted = unrolled(blocks, *inputs(), form)
    assert error(blocks, form, "symmetric", 0.02 / NUDGE[form], wanted) < 2e-3


@pytest.mark.parametrize("form", FORMS)
def test_o_q2_halving_beta_halves_the_error_of_one_sign_and_quarters_that_of_both(form):
    """O-Q2: half the beta has half the error with one sign, and a quarter of it with both."""
    blocks = smooth(form)
    wanted = unrolled(blocks, *inputs(), form)
    for nudging, factor in (("one_sided", 2.0), ("symmetric", 4.0)):
        errors = [error(blocks, form, nudging, beta / NUDGE[form], wanted) for beta in (0.08, 0.04, 0.02)]
        for larger, smaller in zip(errors, errors[1:]):
            assert larger / smaller == pytest.approx(factor, rel=0.1)


def test_o_q3_blocks_in_any_order_with_stale_neighbours_reach_the_same_states():
    """O-Q3: blocks that relax in any order, with what neighbours said last or the time before, reach the same states.
    """
    rules = made(network(), **SETTLED)
    x, y = inputs()
    wanted = [context.ends[0].state for context in settled(rules, x, y)]
    contexts = run_forward(rules, x, y)
    told = [[rule.settle(context, 0, (), ())] * 2 for rule, context in zip(rules, contexts, strict=True)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(600):
        k, age = (int(torch.randint(n, (), generator=generator)) for n in (len(rules), 2))
        below = told[k - 1][age][0] if k > 0 else ()
        above = told[k + 1][age][1] if k + 1 < len(rules) else ()
        told[k] = [rules[k].settle(contexts[k], 1, below, above), told[k][0]]
    for context, state in zip(contexts, wanted, strict=True):
        torch.testing.assert_close(context.state, state, rtol=0.0, atol=1e-6)


def energy(blocks, x, states, targets=None, beta=0.0):
    """F of all samples: half the squared states, less what neighbours and biases agree on, and beta times the cost."""
    found, below = x.new_zeros(()), x
    for block, state in zip(blocks, states, strict=True):
        agreed = (block.body[0](below) * state).sum()  # s_l W s_(l-1) + b s_l
        found, below = found + 0.5 * state.square().sum() - agreed, state
    return found if targets is None else found + beta * (states[-1] - targets).square().sum()


def test_o_q4_a_round_is_a_step_down_the_energy_in_all_layers():
    """O-Q4: a round moves the states of all layers along the negative gradient of the energy, free and nudged."""
    blocks = [b.double() for b in network(Clip, scale=0.2, shift=0.4)]
    rules = made(blocks, "energy", free_rounds=1, nudged_rounds=2, beta=0.3, step=0.25, nudging="one_sided")
    x, y = inputs()
    contexts = run_forward(rules, x, y)
    generator = torch.Generator().manual_seed(1)
    for context in contexts:
        context.state = torch.rand(context.state.shape, generator=generator, dtype=torch.float64) * 0.4 + 0.3
    exchange = Settling(dict(enumerate(rules)), dict(enumerate(contexts)))
    exchange.round(0, (), ())
    targets = nn.functional.one_hot(y, CLASSES)
    for index, beta in ((1, 0.0), (2, 0.3), (3, 0.3)):
        states = [context.state.clone().requires_grad_() for context in contexts]
        slopes = torch.autograd.grad(energy(blocks, x, states, targets, beta), states)
        exchange.round(index, (), ())
        for context, state, slope in zip(contexts, states, slopes, strict=True):
            moved = (context.state - state.detach()) / 0.25
            assert 0.0 < context.state.min() and context.state.max() < 1.0
            torch.testing.assert_close(moved, -slope, rtol=0.0, atol=1e-12)


def implicit(block, top, x, y):
    """Gradients of one hidden layer's fixed point, by implicit differentiation sample by sample."""
    parameters = [*block.parameters(), *top.parameters()]
    total = [torch.zeros_like(p) for p in parameters]
    for sample, label in zip(x, y, strict=True):
        hidden, out = (torch.zeros(1, m.body[0].out_features, dtype=torch.float64) for m in (block, top))
        with torch.no_grad():
            for _ in range(200):
                hidden, out = advanced([block, top], sample[None], [hidden, out], "prototypical", 1.0)
        count = hidden.numel()

        def rounded(s, sample=sample, count=count):
            return torch.cat(advanced([block, top], sample[None], [s[None, :count], s[None, count:]],
                                      "prototypical", 1.0), 1)[0]  # fmt: skip

        s = torch.cat([hidden, out], 1)[0].requires_grad_()
        jacobian = torch.autograd.functional.jacobian(rounded, s.detach())
        slope = torch.zeros_like(s)
        slope[count:] = (s[count:] - nn.functional.one_hot(label, CLASSES)).detach()
        multiplier = torch.linalg.solve((torch.eye(len(s), dtype=s.dtype) - jacobian).T, slope)
        for t, g in zip(total, torch.autograd.grad(rounded(s), parameters, multiplier), strict=True):
            t += g / len(y)
    return [total[:2], total[2:]]


def test_o_q5_with_small_beta_updates_tend_to_the_fixed_point_s_gradient():
    """O-Q5: as beta goes to 0, updates tend to the fixed point's gradient by implicit differentiation, with an error
    like beta."""
    block, top = (b.double() for b in network(widths=(6, 9, CLASSES)))
    wanted = implicit(block, top, *inputs())
    assert_same([flat(unrolled([block, top], *inputs()))], [flat(wanted)], rtol=1e-8)
    errors = [error([block, top], "prototypical", "one_sided", beta, wanted) for beta in (0.04, 0.02, 0.01)]
    assert errors[-1] < 0.02
    for larger, smaller in zip(errors, errors[1:]):
        assert larger / smaller == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("form", FORMS)
def test_o_q6_states_of_0_move_in_round_l_at_layer_l(form):
    """O-Q6: states that begin at 0 move in round 1 at the first layer and in round l at layer l.

    With a derivative of 0 at the ends of the clipped interval they never would.
    """
    rules = made(network(FORMS[form], scale=2.0), form, free_rounds=5)
    x, y = inputs()
    contexts = run_forward(rules, x, y)
    exchange = Settling(dict(enumerate(rules)), dict(enumerate(contexts)))
    for index in range(len(rules) + 1):
        exchange.round(index, (), ())
        assert [bool(c.state.any()) for c in contexts] == [k < index for k in range(len(rules))]


@pytest.mark.parametrize("step", [0.1, 0.5])
def test_o_q7_the_energy_does_not_rise_in_the_free_phase(step):
    """O-Q7: in the free phase the energy does not rise, at steps of .1 and .5."""
    blocks = [b.double() for b in network(Clip, scale=0.5, shift=0.1)]
    rules = made(blocks, "energy", step=step, free_rounds=30)
    x, y = inputs()
    contexts = run_forward(rules, x, y)
    exchange = Settling(dict(enumerate(rules)), dict(enumerate(contexts)))
    found = []
    for index in range(31):
        exchange.round(index, (), ())
        found.append(energy(blocks, x, [c.state for c in contexts]).item())
    assert all(later <= earlier + 1e-12 for earlier, later in zip(found, found[1:])) and found[-1] < found[0]


def test_o_q8_a_sample_s_state_does_not_depend_on_its_batch():
    """O-Q8: the state that is kept of a sample does not depend on the batches it was in."""
    x, y = inputs()
    stores = []
    for cuts in ([range(16)], [range(0, 16, 3), range(1, 16, 3), range(2, 16, 3)], [range(15, -1, -1)]):
        rules = with_store()
        for _ in range(3):  # epochs
            for cut in cuts:
                places = torch.tensor(list(cut))
                noted(rules, places)
                settled(rules, x[places], y[places])
        stores.append([rule.states for rule in rules])
    for other in stores[1:]:
        assert_same(other, stores[0], rtol=1e-12)
